from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import facequarry.miner.engines.lookalikes
import facequarry.miner.engines.routing
from benchmarks.galleries import confusable
from facequarry.miner import MinerConfig, mine
from facequarry.miner.config import Resolve
from facequarry.miner.core.search import Workers
from facequarry.miner.engines.lookalikes import LookAlikes
from facequarry.miner.selection.rows import check_rows
from tests.miner.inputs import (
    assert_adds_up,
    assert_equals,
    assert_equals_exact_when_larger,
    configs,
    galleries,
    separated,
)
from tests.miner.oracle import mine_slowly

Gallery = tuple[NDArray[np.float32], list[int]]
ENGINE_FIELDS = {"engine", "recall_pairs", "recall_vs_exact"}


@settings(deadline=None, max_examples=150)
@given(galleries(), configs())
def test_routing_to_all_identities_follows_the_definitions(
    gallery: Gallery, config: MinerConfig
) -> None:
    config = dataclasses.replace(config, engine="routed", routed_identities=99)
    assert_equals(mine(*gallery, config=config), mine_slowly(*gallery, config, 0))


@settings(deadline=None, max_examples=100)
@given(galleries(), configs(), st.integers(1, 3), st.sampled_from(["none", "exact"]))
def test_routing_claims_nothing_it_did_not_see(
    gallery: Gallery, config: MinerConfig, routed: int, resolve: Resolve
) -> None:
    config = dataclasses.replace(
        config,
        engine="routed",
        routed_identities=routed,
        resolve=resolve,
        max_uses_as_negative=None,
    )
    mined = mine(*gallery, config=config)
    assert_adds_up(mined)
    found, exact = mined.stats, mine_slowly(*gallery, config, 0).counts
    if resolve == "exact":
        assert (found.semi_hard, found.band_empty) == (exact["semi_hard"], exact["band_empty"])
    else:
        assert found.semi_hard <= exact["semi_hard"]
        assert found.band_empty <= exact["band_empty"]
    assert (found.pairs, found.suspect) == (exact["pairs"], exact["suspect"])


@pytest.mark.parametrize("negatives", ["nearest", "random", "hardest"])
def test_routing_to_all_identities_equals_exact_on_a_larger_gallery(negatives: str) -> None:
    stats = assert_equals_exact_when_larger(
        negatives, ENGINE_FIELDS, engine="routed", routed_identities=39
    )
    assert stats.recall_vs_exact == 1.0


@pytest.mark.parametrize("cells_from", [16, 4096])
def test_tables_are_the_same_for_any_number_of_threads(
    cells_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facequarry.miner.engines.lookalikes, "CELLS_FROM", cells_from)
    monkeypatch.setattr(facequarry.miner.engines.lookalikes, "PROBES", 3)
    x, identities = confusable(4000)
    first, *others = (
        mine(x, identities, config=MinerConfig(engine="routed", routed_identities=4, threads=n))
        for n in (1, 2, 3)
    )
    assert 0 < first.stats.beyond_search < first.stats.pairs
    for other in others:
        assert other.table.equals(first.table)
        assert other.stats == first.stats


def test_recall_is_the_share_of_the_exact_pairs_that_are_served() -> None:
    x, identities = confusable(4000)
    recalls = []
    for routed in (1, 4, 199):
        config = MinerConfig(engine="routed", routed_identities=routed)
        stats = mine(x, identities, config=config).stats
        exact = mine(x, identities, config=MinerConfig(engine="exact")).stats
        assert stats.recall_vs_exact is not None
        assert abs(stats.recall_vs_exact - stats.semi_hard / exact.semi_hard) < 0.05
        recalls.append(stats.recall_vs_exact)
    assert recalls[0] < recalls[1] < recalls[2] == 1.0


def test_sample_finds_bands_that_lie_beyond_the_look_alikes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Identity hardly shows: every band holds a good part of the gallery, and few identities do not.
    x, identities = separated(100, 10, 32, 10.0)
    config = MinerConfig(engine="routed", routed_identities=1)
    with_sample = mine(x, identities, config=config).stats
    monkeypatch.setattr(facequarry.miner.engines.routing, "SAMPLE", 1)
    without = mine(x, identities, config=config).stats
    assert without.semi_hard < 0.9 * without.pairs
    assert with_sample.semi_hard > 0.99 * with_sample.pairs


def test_every_negative_is_in_its_band_and_of_another_identity() -> None:
    x, identities = confusable(4000)
    table = mine(x, identities, config=MinerConfig(engine="routed", routed_identities=4)).table
    anchor, negative, d2_ap, d2_an = (
        table[name].to_numpy() for name in ("anchor", "negative", "d2_ap", "d2_an")
    )
    assert np.all(identities[anchor] != identities[negative])
    assert np.all((d2_ap < d2_an) & (d2_an < d2_ap + 0.2))


def test_a_row_in_the_sample_and_in_the_routes_is_offered_once() -> None:
    x, identities = separated(12, 6, 8, 3.0)
    config = MinerConfig(
        engine="routed", routed_identities=3, negatives_per_pair=50, margin=2.0, fallback=("easy",)
    )
    table = mine(x, identities, config=config).table
    rows = np.stack([table[name].to_numpy() for name in ("anchor", "positive", "negative")])
    assert 0 < rows.shape[1] == np.unique(rows, axis=1).shape[1]


@pytest.mark.parametrize("cells_from", [10, 4096])
def test_look_alikes_are_those_of_the_mean_rows(
    cells_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facequarry.miner.engines.lookalikes, "CELLS_FROM", cells_from)
    x, identities = separated(60, 5, 16, 0.5)
    rows = check_rows(x, identities)
    with Workers(2) as workers:
        found = LookAlikes(rows, 59, workers).find(np.arange(60))
    means = rows.x.reshape(60, 5, 16).mean(axis=1)
    scores = means @ means.T
    for identity in range(60):
        assert sorted(found[identity]) == [p for p in range(60) if p != identity]
        assert np.all(np.diff(scores[identity, found[identity]]) < 0.05)  # but for rounding


def test_lists_that_would_not_fit_are_refused_with_what_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facequarry.miner.engines.routing, "_MOST_ROUTES", 100)
    x, identities = separated(20, 4, 8, 0.5)
    with pytest.raises(ValueError, match="routed_identities is 19: for 20 identities .* give 5 or"):
        mine(x, identities, config=MinerConfig(engine="routed", routed_identities=19))
