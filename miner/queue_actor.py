"""The triplet queue as a Ray actor, and a trainer's side of it.

Plain classes; `ray.remote` is applied where they are wired. The queue may be killed at any moment:
it comes back from its journal. It imports neither torch nor numba, so it is back in a second.
"""

from __future__ import annotations

from typing import Any

import ray

from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.generations.triplets import Lease
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.client import MiningFailed, NoAnswer, PatientSource
from facequarry.miner.queue.serve import QueueSettings, TripletQueue, Wait

_CALL_TIMEOUT_S = 60.0
_QUEUE_LOCK_TIMEOUT_S = 90.0  # the actors of a killed driver live on for seconds, or far more


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
