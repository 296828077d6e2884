"""Progress with rate and time left: a bar on a terminal, plain lines every few seconds in a log.

with Progress("ingest", total=9525, unit="photos") as progress:
    progress.update(512, faces=498, rejects=14)
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

_LOOKS = 60


class Progress:
    """Shows how far a task is; a context manager.

    Args:
        task: what is done, the first word of every line.
        total: units in all; None where it is not known.
        unit: what is counted, in the plural.
        stream: where to write; default: standard error.
        every_s: seconds between two plain lines.
        clock: seconds since any moment.
    """

    def __init__(
        self,
        task: str,
        *,
        total: int | None,
        unit: str,
        stream: TextIO | None = None,
        every_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._task = task
        self._total = total
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._every_s = every_s
        self._clock = clock
        self._shown = clock()
        # (seconds, done) of the last looks: a rate that a slow start does not spoil for good.
        self._looks: deque[tuple[float, int]] = deque(maxlen=_LOOKS)
        self._last = ""
        self._bar = _make_bar(self._stream) if self._stream.isatty() else None
        self._row = None if self._bar is None else self._bar.add_task("", total=total, line=task)

    def __enter__(self) -> Progress:
        """Begin: time counts from here."""
        self._shown = self._clock()
        if self._bar is not None:
            self._bar.start()
        return self

    def update(self, done: int, *, total: int | None = None, **fields: object) -> None:
        """Tell how many units are done in all.

        Args:
            done: units done, those that were done before the start included. The rate is that of
                the last looks.
            total: units in all, where it became known or changed.
            **fields: further values to show, by name; a unit belongs in the name.
        """
        if self._looks and done < self._looks[-1][1]:
            self._looks.clear()  # units are done again: the rate begins anew
        self._looks.append((self._clock(), done))
        self._total = self._total if total is None else total
        self._last = self._line(done, fields)
        if self._bar is not None and self._row is not None:
            self._bar.update(self._row, completed=done, total=self._total, line=self._last)
        elif self._clock() - self._shown >= self._every_s:
            self._write_line()

    def say(self, sentence: str) -> None:
        """Write a line of its own, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(sentence, markup=False, highlight=False)
        else:
            self._stream.write(f"{self._task}: {sentence}\n")
            self._stream.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End with the last state visible."""
        if self._bar is not None:
            self._bar.stop()
        elif self._last:
            self._write_line()

    def _line(self, done: int, fields: dict[str, object]) -> str:
        of_total = "" if self._total is None else f"/{self._total}"
        parts = [f"{self._task} {done}{of_total} {self._unit}"]
        parts += [f"{name.replace('_', ' ')} {_text(value)}" for name, value in fields.items()]
        (began, before), (now, _) = self._looks[0], self._looks[-1]
        fresh, elapsed = done - before, now - began
        if fresh > 0 and elapsed > 0:
            rate = fresh / elapsed
            parts.append(f"{rate:.4g} {self._unit}/s")
            if self._total is not None and done < self._total:
                parts.append(f"eta {duration((self._total - done) / rate)}")
        return " | ".join(parts)

    def _write_line(self) -> None:
        self._shown = self._clock()
        if self._last:
            self._stream.write(self._last + "\n")
            self._stream.flush()
            self._last = ""


def duration(seconds: float) -> str:
    """Return seconds in words: `42 s`, `14 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _make_bar(stream: TextIO) -> RichProgress:
    return RichProgress(
        BarColumn(bar_width=24),
        TextColumn("{task.fields[line]}", markup=False),
        console=Console(file=stream),
    )
