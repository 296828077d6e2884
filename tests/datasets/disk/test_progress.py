from __future__ import annotations

import io

import pytest

from facequarry.datasets.disk.progress import Progress, duration


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_log_lines_carry_rate_and_time_left() -> None:
    now, stream = 0.0, io.StringIO()
    with Progress(
        "ingest", total=None, unit="photos", stream=stream, every_s=5, clock=lambda: now
    ) as progress:
        progress.update(100, total=1000)
        now = 2.0
        progress.update(200, faces=190)
        now = 10.0
        progress.update(300, faces=290, rejects={"no_face": 10}, share=0.5)
        now = 11.0
        progress.update(1000, faces=990)

    assert stream.getvalue().splitlines() == [
        "ingest 300/1000 photos | faces 290 | rejects no_face 10 | share 0.5 "
        "| 20 photos/s | eta 35 s",
        "ingest 1000/1000 photos | faces 990 | 81.82 photos/s",
    ]


def test_terminal_gets_a_bar() -> None:
    stream = _Terminal()
    with Progress("mine", total=4, unit="anchors", stream=stream) as progress:
        progress.update(4, pairs=9)
    assert "mine 4/4 anchors | pairs 9" in stream.getvalue()


def test_nothing_to_show_shows_nothing() -> None:
    stream = io.StringIO()
    with Progress("mine", total=4, unit="anchors", stream=stream):
        pass
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(42, "42 s"), (840, "14 min"), (12_600, "3.5 h")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
