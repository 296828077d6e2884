from __future__ import annotations

from benchmarks.approximate import compare
from benchmarks.galleries import confusable


def test_each_way_is_measured_against_the_exact_pairs() -> None:
    exact, *others = compare(confusable(3000), 200)
    assert (exact.way, exact.recall) == ("exact", 1.0)
    assert {row.way for row in others} == {"routed", "faiss"}
    for row in others:
        assert 0.3 < row.recall <= 1
        assert row.seconds > 0 and row.cpu_s > 0
