"""A trainer's side of the queue: ask until the rows of a step exist. Plain Python.

`QueueClient` in `queue_actor.py` asks an actor; a test asks a `TripletQueue` or a script of
answers.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from facequarry.datasets.disk.errors import Failure, TimedOut
from facequarry.datasets.generations.triplets import Lease
from facequarry.miner.queue.serve import Wait

_POLL_S = 0.1


class MiningFailed(Failure):
    """No first generation came about; the message holds the last reason."""


class NoAnswer(Failure):
    """The queue did not answer, and may do so when asked again: it is being restarted."""


class PatientSource(ABC):
    """A `TripletSource` that asks again and again until the rows of a step exist.

    Args:
        timeout_s: longest wait for the rows of one step.
        clock: seconds since any moment.
        sleep: waits for that many seconds.
    """

    def __init__(
        self,
        timeout_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._timeout_s = timeout_s
        self._clock, self._sleep = clock, sleep
        self._wants_checkpoint = False

    @property
    def wants_checkpoint(self) -> bool:
        """Say whether the last ask waits for a generation of a newer checkpoint; any thread may."""
        return self._wants_checkpoint

    def lease(self, step: int) -> Lease:
        """Return the rows of `step`.

        Raises:
            TimedOut: no generation served it in time.
        """
        deadline = self._clock() + self._timeout_s
        while True:
            try:
                answer = self._ask(step)
            except NoAnswer as error:
                why = f"the triplet queue did not answer ({error})"
            else:
                self._wants_checkpoint = isinstance(answer, Wait) and answer.reason == "stale"
                if isinstance(answer, Lease):
                    return answer
                why = f"no generation served it ({answer.reason})"
            if self._clock() > deadline:
                self._wants_checkpoint = False
                raise TimedOut(
                    f"step {step} got no rows within {self._timeout_s:.0f} s: {why}; "
                    "events/miner.jsonl says what the miner did"
                )
            self._sleep(_POLL_S)

    @abstractmethod
    def _ask(self, step: int) -> Lease | Wait:
        """Ask once.

        Raises:
            NoAnswer: asking again may help.
        """
