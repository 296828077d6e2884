"""How far a long stage of a refresh is, in the log: one line every few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from facequarry.datasets.disk.progress import duration

_SAY_EVERY_S = 10.0

logger = logging.getLogger(__name__)


class Pace:
    """Says how far a stage is, with rate and time left; of a quick one it says nothing.

    Args:
        stage: its name.
        unit: what is counted, in the plural.
        total: how many there are; 0: `reach` will say.
        clock: seconds since any moment.
    """

    def __init__(
        self, stage: str, unit: str, total: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stage, self._unit, self._total = stage, unit, total
        self._clock = clock
        self._began = self._said = clock()
        self._done = 0

    def reach(self, done: int, total: int) -> None:
        """Take note of all that is done by now, and of how much there is."""
        self._total = total
        self.add(done - self._done)

    def add(self, count: int) -> None:
        """Take note of what was done since."""
        self._done += count
        now = self._clock()
        if now - self._said < _SAY_EVERY_S:
            return
        self._said = now
        rate = self._done / (now - self._began)
        logger.info(
            "%s %.1f %% | %.3g %s/s | eta %s",
            self._stage,
            100 * self._done / self._total,
            rate,
            self._unit,
            duration((self._total - self._done) / rate),
        )
