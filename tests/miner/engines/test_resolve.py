from __future__ import annotations

import numpy as np
import pytest

from benchmarks.galleries import confusable
from facequarry.miner import Mined, MinerConfig, mine
from tests.miner.inputs import separated


def pairs_of(mined: Mined) -> set[tuple[int, int]]:
    return set(zip(*mined.table.select(["anchor", "positive"]).to_pydict().values(), strict=True))


@pytest.mark.parametrize("fallback", [(), ("hard", "easy")])
def test_flat_index_with_a_bound_gives_the_exact_tables(fallback: tuple[str, ...]) -> None:
    x, identities = separated(40, 10, 32, 1.5)
    exact = mine(x, identities, config=MinerConfig(engine="exact", fallback=fallback))  # type: ignore[arg-type]
    config = MinerConfig(
        engine="faiss",
        neighbours=4,
        neighbours_limit=16,
        resolve="exact",
        fallback=fallback,  # type: ignore[arg-type]
    )
    found = mine(x, identities, config=config)
    assert found.table.equals(exact.table)
    assert found.stats.beyond_search == 0
    assert found.stats.band_empty == exact.stats.band_empty
    assert found.stats.num_resolved > 0


@pytest.mark.parametrize(
    "config",
    [
        MinerConfig(engine="routed", routed_identities=1, resolve="exact"),
        MinerConfig(engine="faiss", faiss_index="IVF32,Flat", nprobe=1, resolve="exact"),
    ],
)
def test_no_pair_is_left_beyond_the_search(config: MinerConfig) -> None:
    x, identities = confusable(2000)
    exact = mine(x, identities, config=MinerConfig(engine="exact"))
    found = mine(x, identities, config=config)
    assert found.stats.beyond_search == 0
    assert found.stats.semi_hard == exact.stats.semi_hard
    assert found.stats.band_empty == exact.stats.band_empty
    assert pairs_of(found) == pairs_of(exact)
    # Recall speaks of the approximate engine, not of what was handed over.
    assert found.stats.recall_vs_exact is not None and found.stats.recall_vs_exact < 1


def test_what_was_found_is_not_searched_again() -> None:
    x, identities = separated(30, 5, 8, 10.0)
    config = MinerConfig(engine="routed", routed_identities=20, resolve="exact", margin=1.0)
    stats = mine(x, identities, config=config).stats
    assert stats.num_resolved < 0.1 * stats.num_anchors


def test_duplicates_alone_hand_no_anchor_over() -> None:
    x, identities = separated(30, 5, 8, 10.0)
    config = MinerConfig(
        engine="routed",
        routed_identities=29,
        resolve="exact",
        duplicate_floor=1e-6,
    )
    stats = mine(x, identities, config=config).stats
    assert stats.num_resolved == 0
    assert np.isclose(stats.recall_vs_exact or 0, 1)
