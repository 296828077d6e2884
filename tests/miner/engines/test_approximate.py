from __future__ import annotations

import dataclasses
import sys
from dataclasses import replace
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facequarry.miner import MinerConfig, mine
from facequarry.miner.engines.approximate import check_index
from tests.miner.inputs import (
    assert_adds_up,
    assert_equals,
    assert_equals_exact_when_larger,
    configs,
    galleries,
    on_circle,
    separated,
)
from tests.miner.oracle import mine_slowly

Gallery = tuple[NDArray[np.float32], list[int]]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"faiss_index": "Flatt"}, "FAISS refuses faiss_index = 'Flatt'"),
    ({"faiss_index": ""}, "FAISS refuses faiss_index = ''"),
    ({"faiss_index": "IVF4,PQ3"}, "FAISS refuses faiss_index = 'IVF4,PQ3' for rows of 8 values"),
    ({"faiss_index": "IVF0,Flat"}, "'IVF0,Flat' has no inverted list"),
    ({"faiss_index": "IDMap,Flat"}, "'IDMap,Flat' numbers rows by itself; leave out IDMap"),
    ({"faiss_index": "HNSW8", "nprobe": 4}, "nprobe is set, but HNSW8 has no inverted lists"),
    ({"faiss_index": "IVF4,Flat", "nprobe": 5}, "nprobe is 5, but IVF4,Flat has 4 inverted lists"),
    ({"faiss_index": "IVF4,Flat", "train_rows": 3}, "train_rows is 3, but IVF4,Flat has 4 invert"),
]
ENGINE_FIELDS = {"engine", "index", "largest_k", "recall_pairs", "recall_vs_exact"}


@settings(deadline=None, max_examples=150)
@given(galleries(), configs(), st.integers(1, 5))
def test_flat_index_up_to_the_whole_gallery_follows_the_definitions(
    gallery: Gallery, config: MinerConfig, neighbours: int
) -> None:
    config = dataclasses.replace(config, engine="faiss", neighbours=neighbours)
    assert_equals(mine(*gallery, config=config), mine_slowly(*gallery, config, 0))


@settings(deadline=None, max_examples=60)
@given(galleries(), configs(), st.integers(1, 3), st.integers(1, 20))
def test_inverted_lists_that_are_all_visited_follow_the_definitions(
    gallery: Gallery, config: MinerConfig, lists: int, neighbours: int
) -> None:
    config = dataclasses.replace(
        config,
        engine="faiss",
        faiss_index=f"IVF{lists},Flat",
        nprobe=lists,
        neighbours=neighbours,
    )
    assert_equals(mine(*gallery, config=config), mine_slowly(*gallery, config, 0))


@settings(deadline=None, max_examples=100)
@given(galleries(), configs(), st.integers(1, 6))
def test_flat_index_claims_nothing_it_did_not_see(
    gallery: Gallery, config: MinerConfig, limit: int
) -> None:
    config = dataclasses.replace(config, engine="faiss", neighbours=1, neighbours_limit=limit)
    mined = mine(*gallery, config=config)
    assert_adds_up(mined)
    found = mined.stats
    exact = mine_slowly(*gallery, config, 0).counts
    assert found.pairs == exact["pairs"]
    assert found.semi_hard <= exact["semi_hard"]
    assert found.band_empty <= exact["band_empty"]
    assert found.suspect == exact["suspect"]
    assert found.largest_k is not None and found.largest_k <= limit


@pytest.mark.parametrize("negatives", ["nearest", "random", "hardest"])
def test_flat_index_equals_exact_on_a_larger_gallery(negatives: str) -> None:
    stats = assert_equals_exact_when_larger(negatives, ENGINE_FIELDS, engine="faiss", neighbours=8)
    assert stats.recall_vs_exact == 1.0
    assert 0 < stats.recall_pairs <= stats.semi_hard


def test_band_beyond_the_limit_is_counted_and_lowers_recall() -> None:
    x, identities = separated(40, 10, 32, 1.5)
    config = MinerConfig(engine="faiss", neighbours=4, neighbours_limit=16)
    stats = mine(x, identities, config=config).stats
    exact = mine(x, identities).stats
    assert stats.beyond_search > 0
    assert stats.recall_vs_exact is not None and 0 < stats.recall_vs_exact < 1
    assert stats.semi_hard < exact.semi_hard
    assert abs(stats.recall_vs_exact - stats.semi_hard / exact.semi_hard) < 0.1


def test_k_stays_at_its_first_value_where_that_answers_all() -> None:
    angles = [0, 1, 2, 3, *range(90, 270, 2)]
    identities = [0, 1, 0, 1, *range(2, 92)]
    config = MinerConfig(engine="faiss", neighbours=8, margin=0.1)
    stats = mine(on_circle([float(a) for a in angles]), identities, config=config).stats
    assert stats.largest_k == 8 + 2  # two faces of its own identity
    assert stats.semi_hard == stats.band_empty == 2


@pytest.mark.parametrize("index", ["IVF8,Flat", "HNSW8", "IVF8,SQ8", "PCA8,Flat"])
def test_index_that_proves_nothing_never_claims_an_empty_band(index: str) -> None:
    x, identities = separated(40, 10, 16, 0.8)
    config = MinerConfig(engine="faiss", faiss_index=index, duplicate_floor=0.05)
    stats = mine(x, identities, config=config).stats
    assert stats.index == index
    assert stats.band_empty == 0
    assert stats.semi_hard + stats.beyond_search == stats.pairs == 40 * 90
    assert stats.semi_hard > 0.5 * stats.pairs


def test_k_doubles_up_to_the_limit_and_not_beyond() -> None:
    x, identities = separated(40, 10, 32, 1.5)
    asked = []
    for limit in (20, 79, 400):
        config = MinerConfig(engine="faiss", neighbours=8, neighbours_limit=limit)
        stats = mine(x, identities, config=config).stats
        asked.append(stats.largest_k)
        assert (stats.beyond_search == 0) == (limit == 400)
    assert asked == [20, 79, 400]


def test_own_identity_takes_no_place_among_the_neighbours() -> None:
    angles = [*np.linspace(0, 20, 30), 21.0, 22.0]
    identities = [0] * 30 + [1, 1]
    config = MinerConfig(engine="faiss", neighbours=2, neighbours_limit=32, margin=0.1)
    mined = mine(on_circle(angles), identities, config=config)
    assert mined.stats.largest_k == 32
    assert mined.table.equals(
        mine(on_circle(angles), identities, config=MinerConfig(margin=0.1)).table
    )


def test_training_rows_are_drawn_by_seed() -> None:
    x, identities = separated(40, 10, 16, 0.8)
    config = MinerConfig(engine="faiss", faiss_index="IVF16,Flat", nprobe=2, train_rows=100)
    first, again, other = (mine(x, identities, config=config, seed=seed) for seed in (3, 3, 4))
    assert first.table.equals(again.table) and first.stats == again.stats
    assert first.stats.semi_hard != other.stats.semi_hard


def test_nprobe_widens_the_search_of_an_ivf_index() -> None:
    x, identities = separated(40, 10, 16, 0.8)
    recalls = []
    for nprobe in (1, 4, 16):
        config = MinerConfig(engine="faiss", faiss_index="IVF16,Flat", nprobe=nprobe)
        recall = mine(x, identities, config=config).stats.recall_vs_exact
        assert recall is not None
        recalls.append(recall)
    assert recalls[0] < recalls[1] <= recalls[2] == 1.0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"faiss_index": "IVF4096,Flat"}, "FAISS refuses faiss_index = 'IVF4096,Flat' for 40 rows"),
        ({"faiss_index": "PCA16,Flat"}, "FAISS refuses faiss_index = 'PCA16,Flat' for 40 rows"),
        *REFUSED,
    ],
)
def test_refused_index_is_a_value_error(options: dict[str, Any], sentence: str) -> None:
    x, identities = separated(10, 4, 8, 0.5)
    with pytest.raises(ValueError, match=sentence):
        mine(x, identities, config=MinerConfig(engine="faiss", **options))


@pytest.mark.parametrize(("options", "sentence"), REFUSED)
@pytest.mark.parametrize("engine", ["faiss", "auto"])
def test_an_index_that_can_never_be_built_is_refused_without_rows(
    options: dict[str, Any], sentence: str, engine: Any
) -> None:
    config = MinerConfig(engine=engine, **options)
    if engine == "auto" and config.faiss_index == "Flat":
        check_index(config, 8)  # auto never takes it
    else:
        with pytest.raises(ValueError, match=sentence):
            check_index(config, 8)


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "faiss"},
        {"engine": "faiss", "faiss_index": "IVF64,Flat", "nprobe": 64},
        {"engine": "auto", "faiss_index": "OPQ4,IVF16,PQ4"},
        {"engine": "exact", "faiss_index": "Flatt"},
        {"engine": "routed", "faiss_index": "Flatt"},
    ],
)
def test_a_possible_index_passes_the_check(options: dict[str, Any]) -> None:
    check_index(MinerConfig(**options), 8)


def test_more_lists_than_rows_are_refused_where_the_rows_are_known() -> None:
    large = MinerConfig(engine="faiss", faiss_index="IVF64,Flat")
    with pytest.raises(ValueError, match="has 64 inverted lists, and there are 63 faces"):
        check_index(large, 8, num_rows=63)
    check_index(large, 8, num_rows=64)
    check_index(replace(large, engine="auto"), 8, num_rows=2)  # auto searches so few exactly


def test_faiss_threads_are_given_back() -> None:
    x, identities = separated(10, 4, 8, 0.5)
    before = faiss.omp_get_max_threads()
    mine(x, identities, config=MinerConfig(engine="faiss", threads=before + 1))
    assert faiss.omp_get_max_threads() == before


def test_missing_faiss_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    x, identities = separated(10, 4, 8, 0.5)
    with pytest.raises(ImportError, match="engine = faiss needs FAISS, which is not installed"):
        mine(x, identities, config=MinerConfig(engine="faiss"))
    with pytest.raises(ImportError, match="engine = faiss needs FAISS, which is not installed"):
        check_index(MinerConfig(engine="faiss"), 8)
    assert mine(x, identities).stats.engine == "exact"
