from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.miner.refresh.budget.budget import Budget, Rates, forecast, most_faces, rates_of
from tests.datasets.runs.test_staleness import FakeLoop

BUDGET = Budget(steps=50, share=0.8, least_rows=1)
RATES = Rates(step_s=0.5, face_s=0.01, look_s=1e-7, fixed_s=1.0)

seconds = st.floats(1e-9, 10.0)
rates = st.builds(Rates, step_s=seconds, face_s=seconds, look_s=seconds, fixed_s=seconds)
budgets = st.builds(
    Budget, steps=st.integers(1, 5000), share=st.floats(0.01, 1.0), least_rows=st.just(1)
)
wanted = st.none() | st.integers(1, 10_000)
totals = st.integers(0, 100_000)


def anchors_of(faces: int, wanted: int | None) -> int:
    return faces if wanted is None else min(faces, wanted)


@given(rates, budgets, wanted, totals)
def test_the_most_faces_fit_and_one_more_does_not(
    rates: Rates, budget: Budget, wanted: int | None, total: int
) -> None:
    def takes(faces: int) -> float:
        anchors = anchors_of(faces, wanted)
        return forecast(rates, budget, faces=faces, anchors=anchors).forecast_s

    most = most_faces(rates, budget, wanted_anchors=wanted, total=total)
    assert 0 <= most <= total
    assert most == 0 or takes(most) <= budget.seconds(rates)
    assert most == total or takes(most + 1) > budget.seconds(rates)


@given(rates, budgets, wanted, totals, st.floats(1.0, 10.0))
def test_slower_work_means_fewer_faces_and_slower_steps_more(
    rates: Rates, budget: Budget, wanted: int | None, total: int, times: float
) -> None:
    most = most_faces(rates, budget, wanted_anchors=wanted, total=total)
    for name in ("face_s", "look_s", "fixed_s"):
        slower = replace(rates, **{name: times * getattr(rates, name)})
        assert most_faces(slower, budget, wanted_anchors=wanted, total=total) <= most
    slower = replace(rates, step_s=times * rates.step_s)
    assert most_faces(slower, budget, wanted_anchors=wanted, total=total) >= most
    asked = most_faces(rates, budget, wanted_anchors=wanted, total=total, probe_faces=100)
    assert asked <= most


def test_a_forecast_adds_up_by_stage() -> None:
    found = forecast(RATES, BUDGET, faces=1000, anchors=200, probe_faces=50)
    assert (found.choose_s, found.embed_s, found.fixed_s) == (0.5, 10.0, 1.0)
    assert found.mine_s == pytest.approx(0.02)
    assert found.forecast_s == pytest.approx(11.52)
    assert found.forecast_steps == pytest.approx(23.04)
    assert found.budget_steps == 50


def refreshed(faces: int, anchors: int, **changed: Any) -> dict[str, Any]:
    event = {"event": "published", "faces": faces, "anchors": anchors, "checkpoint_step": 0}
    event |= {"embed_s": faces * 0.01, "mine_s": faces * anchors * 1e-7}
    return event | {"load_s": 0.1, "open_s": 0.2, "pack_s": 0.3, "publish_s": 0.4} | changed


def stepped(*step_s: float) -> list[dict[str, Any]]:
    return [{"event": "step", "step": n, "step_s": s} for n, s in enumerate(step_s)]


def test_rates_are_medians_over_the_last_refreshes() -> None:
    miner = [refreshed(100, 10, embed_s=900.0)]
    miner += [refreshed(1000, 200), refreshed(500, 100, embed_s=77.0), refreshed(250, 100)]
    found = rates_of(stepped(0.5, 0.5, 40.0), miner)
    assert found is not None
    assert found.step_s == RATES.step_s
    assert found.face_s == pytest.approx(RATES.face_s)
    assert found.look_s == pytest.approx(RATES.look_s)
    assert found.fixed_s == pytest.approx(RATES.fixed_s)


def test_what_the_choice_takes_is_fixed_but_for_the_faces_it_embeds() -> None:
    found = rates_of(stepped(0.5), [refreshed(1000, 200, choose_s=0.75, probe_faces=50)])
    assert found is not None
    assert found.fixed_s == pytest.approx(1.25)


def test_there_are_no_rates_before_a_step_and_a_refresh() -> None:
    assert rates_of([], [refreshed(1000, 200)]) is None
    assert rates_of(stepped(0.5), []) is None
    nothing = refreshed(0, 0, embed_s=0.0, mine_s=0.0)
    assert rates_of(stepped(0.5), [nothing]) is None
    undone = [refreshed(10, 5, checkpoint_step=50), {"event": "rewound", "step": 0}]
    assert rates_of(stepped(0.5), undone) is None


class Budgeted:
    """Durations of refreshes that plan with the rates of those before them.

    The true rates are `rates`, but that each refresh takes its own factor of them; mining has an
    overhead that the forecast does not know.
    """

    def __init__(self, rates: Rates, budget: Budget, total: int, noise: list[float]) -> None:
        self.rates, self.budget, self.total, self.noise = rates, budget, total, noise
        self.miner: list[dict[str, Any]] = []
        self.miner.append(self.refresh(total))
        self.steps: list[int] = []

    def __len__(self) -> int:
        return 10**9

    def refresh(self, faces: int) -> dict[str, Any]:
        factor = (
            1.0 if not hasattr(self, "miner") else self.noise[len(self.miner) % len(self.noise)]
        )
        anchors = min(faces, 500)
        mine_s = 0.3 + self.rates.look_s * anchors * faces
        return refreshed(
            faces, anchors, embed_s=factor * self.rates.face_s * faces, mine_s=factor * mine_s
        )

    def __getitem__(self, turn: int) -> int:
        known = rates_of(stepped(self.rates.step_s), self.miner)
        assert known is not None
        faces = most_faces(known, self.budget, wanted_anchors=500, total=self.total)
        self.miner.append(self.refresh(max(1, faces)))
        stages = ("load", "open", "embed", "mine", "pack", "publish")
        took = sum(self.miner[-1][f"{stage}_s"] for stage in stages)
        self.steps.append(math.ceil(took / self.rates.step_s))
        return self.steps[-1]


@settings(max_examples=40, deadline=None)
@given(
    total=st.integers(100, 1_000_000),
    face_s=st.floats(1e-3, 0.1),
    look_s=st.floats(1e-10, 1e-6),
    noise=st.lists(st.floats(0.92, 1.08), min_size=1, max_size=5),
)
def test_refreshes_that_were_too_slow_soon_end_within_n_steps(
    total: int, face_s: float, look_s: float, noise: list[float]
) -> None:
    rates = replace(RATES, face_s=face_s, look_s=look_s)
    durations = Budgeted(rates, BUDGET, total, noise)
    loop = FakeLoop(BUDGET.steps, durations, prefetch=2)  # type: ignore[arg-type]
    loop.run(steps=30 * BUDGET.steps)
    settled = durations.steps[4:]
    assert len(settled) > 10
    assert max(settled) <= BUDGET.steps
    # From then on no triplet is older than two intervals and what was granted.
    assert max(loop.staleness[-20 * BUDGET.steps :]) < 2 * BUDGET.steps + 2 * 2 + 2


def test_a_budget_is_used_not_only_kept() -> None:
    durations = Budgeted(RATES, BUDGET, 1_000_000, [1.0])
    steps = [durations[turn] for turn in range(10)]
    assert all(35 <= taken <= 41 for taken in steps[4:])
