from __future__ import annotations

from dataclasses import replace

from benchmarks.approximate import BASE, compare, growth
from benchmarks.galleries import confusable


def test_each_way_is_measured_against_the_exact_pairs() -> None:
    exact, *others = compare(confusable(3000), 200)
    assert (exact.way, exact.recall) == ("exact", 1.0)
    assert {row.way for row in others} == {"routed", "faiss"}
    for row in others:
        assert 0.3 < row.recall <= 1
        assert row.seconds > 0 and row.cpu_s > 0


def test_the_exact_engine_takes_turns_with_the_engines_that_are_asked_for() -> None:
    rows = compare(confusable(3000), 100, repeats=2, engines=["routed"])
    assert [row.way for row in rows] == ["exact"] + 4 * ["routed"]


def test_growth_is_fitted_to_the_sizes_given() -> None:
    exponent, cpu_s = growth("separated", [500, 1000, 2000], replace(BASE, engine="routed"))
    assert len(cpu_s) == 3 and min(cpu_s) > 0
    assert exponent == exponent
