"""The closing tables on a narrow terminal: no figure is cut off, whatever the run's size."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from facequarry.datasets.runs.consumed import Consumed, KindShares
from facequarry.datasets.runs.record import wait_share
from facequarry.jobs.reports.report_table import generations_table

SHARES = KindShares(active=1.0, in_band=0.5, now_hard=0.125, now_easy=0.375)


def consumed(generation: int | None, age: int | None) -> Consumed:
    return Consumed(
        generation=generation,
        first_step=10_000,
        last_step=12_499,
        num_steps=2500,
        num_triplets=1_600_000,
        num_empty_steps=0,
        repeats=120_000,
        mean_loss_d2=0.0512,
        faces_per_triplet=2.0,
        at_takeover=SHARES,
        overall=SHARES,
        min_staleness_steps=age,
        max_staleness_steps=None if age is None else age + 2500,
        wait_share=0.1,
    )


@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_of_a_generation_is_cut_off(width: int) -> None:
    printed = io.StringIO()
    Console(file=printed, width=width).print(
        generations_table([consumed(None, None), consumed(123, 1000)])
    )
    _, *lines = printed.getvalue().splitlines()
    (row,) = (line.split() for line in lines if line.startswith(" 123"))
    assert row == (
        "123 10000–12499 1600000 (120000) 1000–3500 0.0512 50/12/38 50".split()  # rounds to even
    )
    assert "…" not in printed.getvalue()
    words = " ".join(printed.getvalue().split())
    assert "what the triplets were in the trainer's own forward pass when consumed" in words
    assert any(line.split()[:1] == ["gen"] for line in lines)


def test_the_wait_that_a_start_begins_with_is_left_out() -> None:
    def step(number: int, wait_s: float, attempt: int) -> dict[str, object]:
        return {"event": "step", "step": number, "attempt": attempt, "step_s": 10, "wait_s": wait_s}

    events = [
        {"event": "start", "step": 0, "attempt": 1},
        step(0, 9.0, 1),
        step(1, 1.0, 1),
        step(2, 9.5, 1),  # taken again
        {"event": "start", "step": 2, "attempt": 2},
        step(2, 8.0, 2),
        step(3, 3.0, 2),
    ]
    assert wait_share(events) == pytest.approx(4 / 20)
    assert wait_share(events[:2]) == 0.0
