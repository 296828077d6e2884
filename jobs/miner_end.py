"""Notice that the miner ended with an error, which training may not feel for a long time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from facequarry.datasets.runs.events import EventLog
from facequarry.jobs.endings import ending_of
from facequarry.miner.queue.client import MiningFailed
from facequarry.trainer.ray_train import raised_in_actor

_ACTOR_TIMEOUT_S = 120.0


class MinerEnd:
    """Looks whether the miner ended with an error, and tells the queue, the log and a person.

    Args:
        mining: what `MinerActor.work` will return; None where nothing is mined.
        queue: handle of the `QueueActor`: asks that would wait then fail with the reason.
        log: the driver's.
    """

    def __init__(self, mining: Any, queue: Any, log: EventLog) -> None:
        self._mining, self._queue, self._log = mining, queue, log
        self._error: ray.exceptions.RayError | None = None

    def look(self, say: Callable[[str], None]) -> None:
        """Look once; the end is logged and said once."""
        if self._mining is None or not ray.wait([self._mining], timeout=0)[0]:
            return
        try:
            ray.get(self._mining, timeout=_ACTOR_TIMEOUT_S)
        except ray.exceptions.RayError as error:
            reason = str(ending_of(error))
            # At each look: a restarted queue has forgotten it.
            self._queue.give_up.remote(reason)
            if self._error is None:
                self._error = error
                self._log.write("miner ended", reason=reason)
                say(f"mining ended: {reason}")

    def behind(self, cause: BaseException) -> BaseException:
        """Return the miner's error where a worker failed for want of triplets, else `cause`."""
        starved = isinstance(raised_in_actor(cause) or cause, MiningFailed)
        return self._error if starved and self._error is not None else cause
