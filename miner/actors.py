"""The Ray actors of mining: the triplet queue, and the miner beside training.

Plain classes; `ray.remote` is applied where they are wired (`jobs/pipeline.py`). Either may be
killed at any moment: the queue comes back from its journal, the miner from what is published.
"""

from __future__ import annotations

import threading
from typing import Any

import ray
import torch

from datasets.events import EventLog
from datasets.fence import FencedLock, LockLost
from datasets.lock import LockHeld
from datasets.run_dir import RunDir
from datasets.triplets import Lease
from miner.client import NoAnswer, PatientSource
from miner.generation import make_generation
from miner.refresh import MiningFailed, Refresher, RefreshPlan, mining
from miner.serve import QueueSettings, TripletQueue, Wait
from trainer.faces import FacesAt, RunFaces

_POLL_S = 0.1
_MOST_DOUBLINGS = 8  # to 26 s
_CALL_TIMEOUT_S = 60.0
_LOCK_TIMEOUT_S = 30.0  # a restarted miner waits for the one that is still dying


class QueueActor:
    """`TripletQueue` as an actor; restarts for ever, its state is the journal."""

    def __init__(self, run: RunDir, settings: QueueSettings, attempt: int) -> None:
        self._queue = TripletQueue(run, settings, attempt=attempt)
        self._failure: str | None = None

    def ask(self, step: int) -> Lease | Wait:
        """Return the rows of `step`, or why it has to wait.

        Raises:
            MiningFailed: there is no generation to serve it and there will be none.
        """
        answer = self._queue.ask(step)
        if isinstance(answer, Wait) and self._failure is not None:
            raise MiningFailed(self._failure)
        return answer

    def give_up(self, reason: str) -> None:
        """Let asks that would wait fail with the reason: the miner has ended."""
        self._failure = reason


class QueueClient(PatientSource):
    """A trainer's side of the queue; survives a queue that is restarted.

    Args:
        actor: handle of a `QueueActor`.
        timeout_s: longest wait for the rows of one step.
    """

    def __init__(self, actor: Any, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self._actor = actor

    def _ask(self, step: int) -> Lease | Wait:
        timeout_s = min(_CALL_TIMEOUT_S, self._timeout_s)
        try:
            answer: Lease | Wait = ray.get(self._actor.ask.remote(step), timeout=timeout_s)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError) as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        return answer


class MinerActor:
    """Refreshes beside training until the run's last checkpoint, or until told to stop."""

    def __init__(
        self,
        run: RunDir,
        faces: FacesAt,
        plan: RefreshPlan,
        *,
        last_step: int,
        max_failures: int,
        threads: int,
        attempt: int,
    ) -> None:
        torch.set_num_threads(threads)
        self._run = run
        self._log = EventLog(run.events, "miner", attempt=attempt)
        self._stopped = threading.Event()
        self._lock: FencedLock | None = None
        self._published = 0
        run_faces = RunFaces(faces)

        def refresh(step: int, number: int) -> None:
            make_generation(
                run, run_faces, plan, step=step, number=number, log=self._log, lock=self._lock
            )

        self._refresher = Refresher(
            run, refresh, last_step=last_step, max_failures=max_failures, log=self._log
        )

    def work(self) -> int:
        """Refresh whenever one is due; return how many generations were published.

        Raises:
            MiningFailed: no first generation came about.
        """
        while not self._stopped.is_set():
            try:
                with mining(self._run, timeout_s=_LOCK_TIMEOUT_S) as self._lock:
                    self._refresh_until_stopped()
            except LockHeld as held:  # `facequarry mine`, or a miner that is still dying
                self._log.write("failed", reason=str(held), **self._refresher.in_hand())
            except LockLost:  # logged where it was found out; the new holder may be gone by now
                continue
        return self._published

    def _refresh_until_stopped(self) -> None:
        while not self._stopped.is_set():
            if self._refresher.turn():
                self._published += 1
            elif not self._refresher.is_due_at_once():
                # A refresh that failed is tried again after a while that doubles.
                pause_s = _POLL_S * 2 ** min(self._refresher.failures, _MOST_DOUBLINGS)
                self._stopped.wait(pause_s)

    def stop(self) -> None:
        """End `work` after the refresh in hand."""
        self._stopped.set()
