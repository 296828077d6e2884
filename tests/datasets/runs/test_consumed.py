from __future__ import annotations

from typing import Any

import pytest

from facequarry.datasets.runs.consumed import KindShares, by_generation


def event(step: int, generation: int | None, **values: Any) -> dict[str, Any]:
    shares = {"active_share": 1.0, "in_band_share": 1.0, "now_hard_share": 0.0}
    times = {"step_s": 2.0, "wait_s": 0.5}
    figures = {"loss_d2": 0.25, "num_triplets": 4, "faces_per_triplet": 2.0, "repeats": 0}
    return (
        {"step": step, "generation": generation}
        | shares
        | {"now_easy_share": 0.0}
        | (times | figures | values)
    )


def test_steps_are_summed_up_by_the_generation_that_served_them() -> None:
    events = [
        event(0, None),
        event(1, 0, staleness_steps=1),
        event(2, 0, staleness_steps=2, repeats=3, loss_d2=0.75, wait_s=1.5),
        event(3, 2, staleness_steps=0),
    ]
    random, first, second = by_generation(events)
    assert [c.generation for c in (random, first, second)] == [None, 0, 2]
    assert (first.first_step, first.last_step, first.num_steps) == (1, 2, 2)
    assert (first.num_triplets, first.repeats, first.mean_loss_d2) == (8, 3, 0.5)
    assert (first.min_staleness_steps, first.max_staleness_steps) == (1, 2)
    assert (first.wait_share, first.faces_per_triplet) == (0.5, 2.0)
    assert random.min_staleness_steps is None and random.max_staleness_steps is None


def test_shares_are_given_at_the_takeover_and_over_all_triplets() -> None:
    events = [
        event(0, 0, active_share=1.0, in_band_share=0.5, now_hard_share=0.5),
        event(
            1,
            0,
            active_share=0.5,
            in_band_share=0.25,
            now_hard_share=0.25,
            now_easy_share=0.5,
            num_triplets=12,
        ),
    ]
    (consumed,) = by_generation(events)
    assert consumed.at_takeover == KindShares(active=1.0, in_band=0.5, now_hard=0.5, now_easy=0.0)
    overall = consumed.overall
    assert overall.active == pytest.approx((4 * 1 + 12 * 0.5) / 16)
    assert overall.in_band + overall.now_hard + overall.now_easy == pytest.approx(1)


def test_steps_without_triplets_are_counted() -> None:
    empty = event(1, None, num_triplets=0, in_band_share=0.0, active_share=0.0, loss_d2=0.0)
    del empty["faces_per_triplet"]
    (consumed,) = by_generation([event(0, None), empty])
    assert (consumed.num_steps, consumed.num_empty_steps, consumed.num_triplets) == (2, 1, 4)
    assert (consumed.faces_per_triplet, consumed.overall.in_band) == (2.0, 1.0)
    assert consumed.mean_loss_d2 == 0.25
    (nothing,) = by_generation([empty])
    assert nothing.faces_per_triplet is None and nothing.mean_loss_d2 == 0


def test_a_run_without_steps_consumed_nothing() -> None:
    assert by_generation([]) == []
