"""The Ray actors of mining: the triplet queue, and the miner beside training.

Plain classes; `ray.remote` is applied where they are wired (`jobs/start_actors.py`). Either may be
killed at any moment: the queue comes back from its journal, the miner from what is published.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import ray
import torch

from facequarry.datasets.disk.fence import FencedLock, LockLost
from facequarry.datasets.disk.lock import LockHeld, WriterLock
from facequarry.datasets.generations.triplets import Lease
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.client import NoAnswer, PatientSource
from facequarry.miner.queue.serve import QueueSettings, TripletQueue, Wait
from facequarry.miner.refresh.executors import HERE, Executors
from facequarry.miner.refresh.generation import make_generation
from facequarry.miner.refresh.one_miner import mining
from facequarry.miner.refresh.recipe import RefreshPlan
from facequarry.miner.refresh.refresh import MiningFailed, Refresher
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces

_POLL_S = 0.1
_MOST_DOUBLINGS = 8  # to 26 s
_CALL_TIMEOUT_S = 60.0
_LOCK_TIMEOUT_S = 30.0  # a restarted miner waits for the one that is still dying
_QUEUE_LOCK_TIMEOUT_S = 90.0  # the actors of a killed driver live on for seconds, or far more

logger = logging.getLogger(__name__)


class QueueActor:
    """`TripletQueue` as an actor; restarts for ever, its state is the journal.

    It is the only writer of the journal for as long as its process lives: the lock is never freed
    before, so that no answer of an old queue can follow the first of a new one.
    """

    def __init__(self, run: RunDir, settings: QueueSettings, attempt: int) -> None:
        self._lock = WriterLock(run.queue_lock, timeout_s=_QUEUE_LOCK_TIMEOUT_S)
        self._queue: TripletQueue | None = None
        self._refusal: Exception | None = None
        self._failure: str | None = None
        try:
            self._lock.__enter__()
            self._queue = TripletQueue(run, settings, attempt=attempt)
        except Exception as error:
            # Raised here it would only be the death of an actor to those who ask.
            self._refusal = error

    def ask(self, step: int) -> Lease | Wait:
        """Return the rows of `step`, or why it has to wait.

        Raises:
            LockHeld: another process, such as a queue of the attempt before, writes the journal.
            CorruptJournal, QueueMismatch: the journal cannot be gone on with.
            MiningFailed: there is no generation to serve it and there will be none.
        """
        if self._queue is None:
            raise self._refusal or RuntimeError("the triplet queue was never opened")
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
        executors: Executors = HERE,
    ) -> None:
        torch.set_num_threads(threads)
        self._run = run
        self._log = EventLog(run.events, "miner", attempt=attempt)
        self._stopped = threading.Event()
        self._lock: FencedLock | None = None
        self._published = 0
        self._waiting: dict[str, int] | None = None
        self._errors = 0
        run_faces = RunFaces(faces)

        def refresh(step: int, number: int) -> None:
            make_generation(
                run,
                run_faces,
                plan,
                step=step,
                number=number,
                log=self._log,
                lock=self._lock,
                executors=executors,
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
                self._take_the_lock_and_refresh()
            except MiningFailed:
                raise
            except LockLost:  # logged where it was found out; the new holder may be gone by now
                continue
            except Exception as error:  # beside a refresh: the disk under the lock, or the log
                self._errors += 1
                self._say_failed(error)
                self._pause(self._errors)
        return self._published

    def _take_the_lock_and_refresh(self) -> None:
        try:
            with mining(self._run, timeout_s=_LOCK_TIMEOUT_S) as self._lock:
                self._waiting = None
                self._refresh_until_stopped()
        except LockHeld as held:  # `facequarry mine`, or a miner that is still dying
            self._say_waiting(held)

    def _refresh_until_stopped(self) -> None:
        while not self._stopped.is_set():
            if self._refresher.turn():
                self._published += 1
            elif not self._refresher.is_due_at_once():
                self._pause(self._refresher.failures)
            self._errors = 0

    def _pause(self, failures: int) -> None:
        """Wait before the next look: after failures for a while that doubles."""
        self._stopped.wait(_POLL_S * 2 ** min(failures, _MOST_DOUBLINGS))

    def _say_waiting(self, held: LockHeld) -> None:
        """Log a wait for the lock once, and once more when there is a refresh that it delays."""
        in_hand = self._refresher.in_hand()
        if self._waiting is None or (in_hand and not self._waiting):
            self._log.write("waiting", reason=str(held), **in_hand)
            self._waiting = in_hand

    def _say_failed(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        logger.warning("mining is tried again: %s", reason, exc_info=True)
        try:
            self._log.write("failed", reason=reason)
        except OSError as unlogged:  # the disk is full, most likely: the run goes on
            logger.warning("and could not be logged: %s", unlogged)

    def stop(self) -> None:
        """End `work` after the refresh in hand."""
        self._stopped.set()
