from __future__ import annotations

import pytest

from benchmarks.cost import PASSES, Point, crossover, fit, measure
from facequarry.miner.config import MinerConfig
from facequarry.miner.engines.cost import SECONDS_PER, choose_engine, seconds


def points(seconds_per: dict[str, float], *, wrong: float = 0.0) -> list[Point]:
    """Points that follow a model on the gallery that counts, and are `wrong` on the other."""
    return [
        Point(
            engine,
            *size,
            {
                "separated": seconds(engine, *size, seconds_per),
                "untrained": seconds(engine, *size, seconds_per)
                * (1 + wrong if engine == "exact" else 1 - wrong),
            },
        )
        for engine, sizes in PASSES.items()
        for size in sizes
    ]


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_constants_are_found_again_from_the_gallery_that_speaks_for_exact(wrong: float) -> None:
    made = {unit: (3 + place) * rate for place, (unit, rate) in enumerate(SECONDS_PER.items())}
    assert fit(points(made, wrong=wrong)) == pytest.approx(made, rel=1e-6)


def test_no_constant_is_negative() -> None:
    odd = [
        Point("faiss", num_rows, anchors, {"separated": 1e-5 * num_rows - 4e-5 * anchors})
        for num_rows, anchors in PASSES["faiss"]
    ]
    fitted = fit(odd)
    assert fitted["faiss anchor"] == 0 < fitted["faiss row"]


@pytest.mark.parametrize("anchors", [None, 50_000])
def test_the_crossover_is_where_auto_changes(anchors: int | None) -> None:
    found = crossover(SECONDS_PER, anchors)
    assert found is not None
    for num_rows, engine in ((found - 1000, "exact"), (found, "routed")):
        asked = num_rows if anchors is None else min(anchors, num_rows)
        assert choose_engine(MinerConfig(device="cpu"), num_rows, asked) == engine


def test_there_is_no_crossover_where_routing_is_dearer() -> None:
    assert crossover({**SECONDS_PER, "routed row": 1.0}, 1000) is None


def test_passes_are_measured_on_each_kind_of_gallery() -> None:
    found = measure({"exact": [(2000, 100)], "routed": [(2000, 2000)]}, 1)
    assert [(point.engine, point.num_rows, point.num_anchors) for point in found] == [
        ("exact", 2000, 100),
        ("routed", 2000, 2000),
    ]
    for point in found:
        assert point.cpu_s.keys() == {"separated", "untrained"}
        assert point.fitted_s > 0
    exact, routed = found
    assert exact.fitted_s == min(exact.cpu_s.values())
    assert routed.fitted_s == max(routed.cpu_s.values())
