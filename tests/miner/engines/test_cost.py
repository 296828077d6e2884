from __future__ import annotations

import pytest

from facequarry.miner import MinerConfig
from facequarry.miner.engines.cost import SECONDS_PER, WORTH_S, Chosen, choose_engine, seconds, work

IVF = MinerConfig(faiss_index="IVF4096,Flat", nprobe=16)
ENGINES: tuple[Chosen, ...] = ("exact", "routed", "faiss")
SIZES = [int(10 ** (3 + 0.1 * step)) for step in range(60)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_named_engine_is_taken_at_any_size(engine: Chosen) -> None:
    config = MinerConfig(engine=engine)
    assert choose_engine(config, 10, 10) == choose_engine(config, 10**8, 10**8) == engine


@pytest.mark.parametrize("anchors", ["all", "a twentieth", 50_000])
def test_auto_gives_up_the_proof_once_and_for_good_as_the_gallery_grows(
    anchors: str | int,
) -> None:
    asked = {"all": SIZES, "a twentieth": [n // 20 for n in SIZES]}.get(
        str(anchors), [min(50_000, n) for n in SIZES]
    )
    sizes = list(zip(SIZES, asked, strict=True))
    chosen = [choose_engine(MinerConfig(), *size) for size in sizes]
    crossover = chosen.index("routed")
    assert chosen == ["exact"] * crossover + ["routed"] * (len(sizes) - crossover)
    assert 50_000 < sizes[crossover][0] < 1_500_000
    saved = [seconds("exact", *size) - seconds("routed", *size) for size in sizes]
    assert saved[crossover - 1] < WORTH_S <= saved[crossover]


def test_auto_takes_an_index_where_one_is_named_and_only_far_up() -> None:
    assert choose_engine(IVF, 200_000, 200_000) == "exact"
    assert choose_engine(IVF, 5_000_000, 5_000_000) == "faiss"


def test_auto_stays_exact_for_few_anchors() -> None:
    assert choose_engine(MinerConfig(), 1_000_000, 256) == "exact"


def test_approximate_grows_slower_than_exact() -> None:
    most: dict[Chosen, float] = {"exact": 4.01, "routed": 2.6, "faiss": 2.01}
    for engine, limit in most.items():
        growth = seconds(engine, 2_000_000, 2_000_000) / seconds(engine, 1_000_000, 1_000_000)
        assert growth < limit


@pytest.mark.parametrize("engine", ENGINES)
def test_more_rows_and_more_anchors_cost_more(engine: Chosen) -> None:
    all_anchors = [seconds(engine, n, n) for n in SIZES]
    more_anchors = [seconds(engine, 10**6, a) for a in SIZES if a <= 10**6]
    more_rows = [seconds(engine, n, 1000) for n in SIZES]
    for forecasts in (all_anchors, more_anchors, more_rows):
        assert all(less < more for less, more in zip(forecasts, forecasts[1:], strict=False))


def test_a_pass_that_serves_both_sides_multiplies_each_two_rows_once() -> None:
    both, one = work("exact", 10_000, 7001), work("exact", 10_000, 7000)
    assert both == {"symmetric product": 50_000_000, "exact anchor": 7001}
    assert one == {"one-sided product": 70_000_000, "exact anchor": 7000}


def test_forecasts_are_work_times_the_constants_and_use_all_of_them() -> None:
    passes: list[tuple[Chosen, int, int]] = [
        ("exact", 10**5, 10**5),
        ("exact", 10**5, 10**4),
        ("routed", 10**5, 10**4),
        ("faiss", 10**5, 10**4),
    ]
    used = {unit for made in passes for unit in work(*made)}
    assert used == SECONDS_PER.keys()
    for made in passes:
        expected = sum(SECONDS_PER[unit] * amount for unit, amount in work(*made).items())
        assert seconds(*made) == expected > 0
        twice = {unit: 2 * rate for unit, rate in SECONDS_PER.items()}
        assert seconds(*made, twice) == pytest.approx(2 * expected)
