"""The miner beside training, as a Ray actor.

A plain class; `ray.remote` is applied where it is wired. It may be killed at any moment: it comes
back from what is published.
"""

from __future__ import annotations

import logging
import threading

import torch

from facequarry.datasets.disk.fence import FencedLock, LockLost
from facequarry.datasets.disk.lock import LockHeld
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.client import MiningFailed
from facequarry.miner.refresh.executors import HERE, Executors
from facequarry.miner.refresh.generation import make_generation
from facequarry.miner.refresh.one_miner import mining
from facequarry.miner.refresh.recipe import RefreshPlan
from facequarry.miner.refresh.refresh import Refresher
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces

_POLL_S = 0.1
_MOST_DOUBLINGS = 8  # to 26 s
_LOCK_TIMEOUT_S = 30.0  # a restarted miner waits for the one that is still dying

logger = logging.getLogger(__name__)


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
        random_until_mined: bool = False,
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
            run,
            refresh,
            last_step=last_step,
            max_failures=max_failures,
            random_until_mined=random_until_mined,
            log=self._log,
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
