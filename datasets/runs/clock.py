"""A run's own clock: seconds that the run was at work, pauses between its attempts left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class RunClock:
    """Puts the events of all stages on one axis that starts at 0 and has no gap at a resume.

    Args:
        events: events of every stage, in any order.
    """

    def __init__(self, events: Iterable[Mapping[str, Any]]) -> None:
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        for event in events:
            attempt, time = event["attempt"], event["time"]
            first[attempt] = min(time, first.get(attempt, time))
            last[attempt] = max(time, last.get(attempt, time))
        self._shift: dict[int, float] = {}
        self.elapsed_s = 0.0
        """Seconds that all attempts took together."""
        for attempt in sorted(first):
            self._shift[attempt] = first[attempt] - self.elapsed_s
            self.elapsed_s += last[attempt] - first[attempt]
        self.attempts = max(first, default=0)
        """Number of the last attempt; 0 before anything was logged."""
        self.last_time = max(last.values(), default=0.0)
        """When the last event was written, seconds since the epoch."""

    def run_until(self, now: float) -> None:
        """Count the time since the last event in: the run goes on.

        Args:
            now: seconds since the epoch.
        """
        if self.attempts:
            self.elapsed_s += max(now - self.last_time, 0.0)

    def at_s(self, event: Mapping[str, Any]) -> float:
        """Return when an event was written on this clock, seconds."""
        return float(event["time"] - self._shift[event["attempt"]])
