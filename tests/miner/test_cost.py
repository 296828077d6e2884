from __future__ import annotations

import pytest

from miner import MinerConfig
from miner.cost import choose_engine, seconds

IVF = MinerConfig(faiss_index="IVF4096,Flat", nprobe=16)


@pytest.mark.parametrize("engine", ["exact", "routed", "faiss"])
def test_a_named_engine_is_taken_at_any_size(engine: str) -> None:
    config = MinerConfig(engine=engine)  # type: ignore[arg-type]
    assert choose_engine(config, 10, 10) == choose_engine(config, 10**8, 10**8) == engine


def test_auto_gives_up_the_proof_once_and_for_good_as_the_gallery_grows() -> None:
    for share in (1.0, 0.05):
        sizes = [int(10 ** (3 + 0.1 * step)) for step in range(60)]
        chosen = [choose_engine(MinerConfig(), n, int(share * n)) for n in sizes]
        crossover = chosen.index("routed")
        assert chosen == ["exact"] * crossover + ["routed"] * (60 - crossover)
        assert 100_000 < sizes[crossover] < 1_500_000


def test_auto_takes_an_index_where_one_is_named_and_only_far_up() -> None:
    assert choose_engine(IVF, 200_000, 200_000) == "exact"
    assert choose_engine(IVF, 5_000_000, 5_000_000) == "faiss"


def test_auto_stays_exact_for_few_anchors() -> None:
    assert choose_engine(MinerConfig(), 1_000_000, 256) == "exact"


def test_approximate_grows_slower_than_exact() -> None:
    for engine, most in (("exact", 4.01), ("routed", 2.6), ("faiss", 2.01)):
        growth = seconds(engine, 2_000_000, 2_000_000) / seconds(engine, 1_000_000, 1_000_000)  # type: ignore[arg-type]
        assert growth < most
