"""Seconds by stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping


class Stopwatch:
    """Seconds by stage: each `lap` ends a stage that began where the one before ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str, **parts: float) -> None:
        """End a stage.

        Args:
            stage: its name.
            parts: seconds of it that are stages of their own.
        """
        now = self._clock()
        self.seconds |= parts | {stage: now - self._last - sum(parts.values())}
        self._last = now

    def timing(self) -> dict[str, float]:
        """Return the seconds with their unit in the names."""
        return in_seconds(self.seconds)

    @property
    def total_s(self) -> float:
        """Seconds up to the last lap."""
        return self._last - self._began


def in_seconds(by_stage: Mapping[str, float]) -> dict[str, float]:
    """Return seconds by stage with their unit in the names."""
    return {f"{stage}_s": seconds for stage, seconds in by_stage.items()}
