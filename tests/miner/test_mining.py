from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import facequarry.miner.engines.exact
import facequarry.miner.engines.multiply
import facequarry.miner.engines.products
import facequarry.miner.selection.pairs
from facequarry.miner import MinerConfig, mine
from facequarry.miner.engines.multiply import onednn_is_exact
from facequarry.miner.selection.stats import why_no_rows
from tests.miner.inputs import assert_equals, configs, galleries, on_circle, separated
from tests.miner.oracle import mine_slowly

Gallery = tuple[NDArray[np.float32], list[int]]
seeds = st.sampled_from([0, 1, -7, 2**70])


@pytest.fixture(params=["int8", "torch.mm", "oneDNN"])
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Filter with each product, however fast they are here."""
    if request.param == "oneDNN" and not onednn_is_exact(128):
        pytest.skip("this torch multiplies nothing through oneDNN, or rounds its inputs")
    monkeypatch.setattr(
        facequarry.miner.engines.exact, "int8_pays", lambda dimension: request.param == "int8"
    )
    monkeypatch.setattr(facequarry.miner.engines.exact, "INT8_FROM", 0)
    monkeypatch.setattr(facequarry.miner.engines.products, "CHOSEN_FROM", 0)
    pays = request.param == "oneDNN"
    monkeypatch.setattr(facequarry.miner.engines.multiply, "onednn_pays", lambda dimension: pays)
    return request.param


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(gallery=galleries(), config=configs(), seed=seeds)
def test_exact_engine_follows_the_definitions(
    product: str, gallery: Gallery, config: MinerConfig, seed: int
) -> None:
    assert_equals(mine(*gallery, config=config, seed=seed), mine_slowly(*gallery, config, seed))


@pytest.mark.parametrize("fallback", [("hard",), ("easy", "hard")])
def test_a_tied_negative_is_hard_where_the_margin_rounds_away(fallback: Any) -> None:
    x, identities = np.eye(3, dtype=np.float32), [0, 0, 1]
    config = MinerConfig(margin=1e-7, fallback=fallback)
    mined = mine(x, identities, config=config)
    assert mined.table["kind"].to_pylist() == ["hard", "hard"]
    assert_equals(mined, mine_slowly(x, identities, config, 0))


@settings(deadline=None, max_examples=60)
@given(galleries(), configs(), st.data())
def test_row_ids_stand_for_row_numbers_everywhere(
    gallery: Gallery, config: MinerConfig, data: st.DataObject
) -> None:
    x, identities = gallery
    drawn = data.draw(
        st.lists(st.integers(0, 2**60), unique=True, min_size=len(x), max_size=len(x))
    )
    ids = sorted(drawn)
    mined = mine(x, identities, config=config, row_ids=np.array(ids))
    assert_equals(mined, mine_slowly(x, identities, config, 0, ids))


@pytest.mark.usefixtures("product")
@pytest.mark.parametrize("negatives", ["nearest", "random", "hardest"])
@pytest.mark.parametrize(
    ("searches", "rows", "columns", "threads"), [(1, 1, 1, 1), (7, 3, 3, 2), (500, 64, 1000, 3)]
)
def test_tiles_and_threads_do_not_show(
    monkeypatch: pytest.MonkeyPatch,
    negatives: str,
    searches: int,
    rows: int,
    columns: int,
    threads: int,
) -> None:
    x, identities = separated(12, 6, 8, 0.7)
    fallback = () if negatives == "hardest" else ("hard", "easy")
    options = {
        "negatives": negatives,
        "negatives_per_pair": 3,
        "fallback": fallback,
        "duplicate_floor": 0.2,
        "positive_cap": 1.5,
        "max_uses_as_negative": 3,
    }
    usual = mine(x, identities, config=MinerConfig(**options, threads=1))  # type: ignore[arg-type]
    monkeypatch.setattr(facequarry.miner.selection.pairs, "MOST_SEARCHES", searches)
    monkeypatch.setattr(facequarry.miner.engines.exact, "TILE_ROWS", rows)
    monkeypatch.setattr(facequarry.miner.engines.exact, "TILE_COLUMNS", columns)
    monkeypatch.setattr(facequarry.miner.engines.exact, "CHUNK_ROWS", 2 * rows + 1)
    config = MinerConfig(**options, threads=threads)  # type: ignore[arg-type]
    other = mine(x, identities, config=config)
    assert other.table.equals(usual.table)
    assert other.suspects.equals(usual.suspects)
    assert other.stats == usual.stats


@pytest.mark.usefixtures("product")
@pytest.mark.parametrize("columns", [100, 1000])
@pytest.mark.parametrize("fallback", [("hard",), ("easy",)])
@pytest.mark.parametrize("negatives", ["nearest", "random"])
def test_small_galleries_are_searched_one_sided_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, negatives: Any, fallback: Any, columns: int
) -> None:
    x, identities = separated(60, 6, 8, 0.7)
    monkeypatch.setattr(facequarry.miner.engines.exact, "TILE_COLUMNS", columns)
    config = MinerConfig(negatives=negatives, duplicate_floor=0.2, fallback=fallback)
    both_sides = mine(x, identities, config=config)
    monkeypatch.setattr(facequarry.miner.engines.exact, "ONE_SIDED_UP_TO", len(x))
    one_side = mine(x, identities, config=config)
    assert (both_sides.stats.symmetric, one_side.stats.symmetric) == (True, False)
    expected = mine_slowly(x, identities.tolist(), config, 0)
    assert_equals(both_sides, expected)
    assert_equals(one_side, expected)


def test_shuffled_rows_give_the_same_triplets() -> None:
    x, identities = separated(10, 5, 16, 0.8)
    order = np.random.default_rng(1).permutation(len(x))
    usual = mine(x, identities).table.to_pandas()
    shuffled = mine(x[order], identities[order]).table.to_pandas()
    for name in ("anchor", "positive", "negative"):
        shuffled[name] = order[shuffled[name]]
    shuffled = shuffled.sort_values(["anchor", "positive"], ignore_index=True)
    assert shuffled.equals(usual)


def test_collapsed_gallery_is_mined_and_its_suspects_are_bounded() -> None:
    x = np.tile(on_circle([30]), (40, 1))
    config = MinerConfig(duplicate_floor=0.01)
    mined = mine(x, np.repeat(np.arange(20), 2), config=config)
    assert mined.stats.pairs == mined.stats.band_empty == mined.stats.pairs_without_rows == 40
    assert mined.stats.suspect_negatives == 40 * 38
    assert 0 < mined.suspects.num_rows <= 40 * 8
    assert sum(mined.stats.nearest_d2_an_histogram) == 0


def test_no_face_serves_more_often_than_it_may() -> None:
    x, identities = separated(20, 6, 16, 1.0)
    free = mine(x, identities, config=MinerConfig(negatives_per_pair=2))
    capped = mine(x, identities, config=MinerConfig(negatives_per_pair=2, max_uses_as_negative=4))
    uses = np.bincount(free.table["negative"].to_numpy(), minlength=len(x))
    assert uses.max() > 4
    assert np.array_equal(
        np.bincount(capped.table["negative"].to_numpy(), minlength=len(x)), np.minimum(uses, 4)
    )
    assert capped.stats.over_max_uses == free.table.num_rows - capped.table.num_rows
    assert capped.stats.semi_hard == free.stats.semi_hard
    left = set(zip(*capped.table.to_pydict().values(), strict=True))
    assert left < set(zip(*free.table.to_pydict().values(), strict=True))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "of 4 pairs 4 have none .widen miner.margin"),
        ({"positive_cap": 1e-5}, "of 4 pairs 4 are over miner.positive_cap"),
        ({"engine": "faiss", "neighbours": 1, "neighbours_limit": 2}, "beyond what was searched"),
        ({"duplicate_floor": 3.9999}, ", 6 negatives are under miner.duplicate_floor"),
    ],
)
def test_no_triplet_is_explained_by_the_counts(options: dict[str, Any], sentence: str) -> None:
    stats = mine(on_circle([0, 1, 180, 182]), [0, 0, 1, 1], config=MinerConfig(**options)).stats
    assert stats.rows == 0
    assert re.search(sentence, why_no_rows(stats.to_dict()))


def test_large_gallery_serves_only_negatives_in_their_band() -> None:
    x, identities = separated(100, 20, 64, 2.0)
    config = MinerConfig(positives="random", positives_per_anchor=2)
    mined = mine(x, identities, config=config, seed=3)
    assert mined.stats.pairs == 4000 == mined.stats.semi_hard + mined.stats.band_empty
    a, p, n = (mined.table[name].to_numpy() for name in ("anchor", "positive", "negative"))
    assert np.all(identities[a] == identities[p])
    assert np.all(identities[a] != identities[n])
    d2 = ((x[:, None].astype(np.float64)[a[:50]] - x[None].astype(np.float64)) ** 2).sum(-1)
    for i in range(50):
        in_band = (d2[i] > d2[i, p[i]]) & (d2[i] < d2[i, p[i]] + 0.2)
        in_band &= identities != identities[a[i]]
        assert n[i] == np.flatnonzero(in_band)[np.argmin(d2[i][in_band])]


def test_tables_have_the_published_schema_even_when_empty() -> None:
    x = on_circle([0, 1, 180, 181])
    mined = mine(x, [0, 0, 1, 1])
    assert mined.table.num_rows == mined.suspects.num_rows == 0
    assert mined.table.schema == pa.schema(
        {
            "anchor": pa.int64(),
            "positive": pa.int64(),
            "negative": pa.int64(),
            "d2_ap": pa.float32(),
            "d2_an": pa.float32(),
            "kind": pa.dictionary(pa.int32(), pa.string()),
        }
    )
    assert mined.suspects.schema == pa.schema(
        {"reason": pa.string(), "face_a": pa.int64(), "face_b": pa.int64(), "d2": pa.float32()}
    )


def test_stats_are_plain_json_without_seconds() -> None:
    mined = mine(on_circle([0, 10, 12, 25]), [0, 0, 1, 1])
    values = mined.stats.to_dict()
    assert json.loads(json.dumps(values)) == values
    assert "seconds" not in values
    assert set(mined.stats.seconds) == {"prepare", "search", "select", "recall"}


def test_same_pairs_are_semi_hard_as_in_pytorch_metric_learning() -> None:
    import torch
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.miners import TripletMarginMiner

    x, identities = separated(200, 5, 8, 0.7)
    miner_of_batches = TripletMarginMiner(
        margin=0.2,
        type_of_triplets="semihard",
        distance=LpDistance(normalize_embeddings=False, p=2, power=2),
    )
    theirs = miner_of_batches(torch.from_numpy(x), torch.from_numpy(identities))
    d2 = ((x[:, None].astype(np.float64) - x[None]) ** 2).sum(-1)
    is_other = identities[:, None] != identities[None]
    mined = mine(x, identities)
    ours = set(zip(*mined.table.select(["anchor", "positive"]).to_pydict().values(), strict=True))
    # Their product rounds differently: leave out pairs with a negative on an edge of the band.
    doubtful = set()
    for a, p in zip(*np.nonzero(~is_other), strict=True):
        near = [np.abs(d2[a] - d2[a, p]), np.abs(d2[a] - d2[a, p] - 0.2)]
        if np.any(is_other[a] & (np.minimum(*near) < 1e-4)):
            doubtful.add((a, p))
    assert len(ours - doubtful) > 500
    assert ours - doubtful == set(zip(*(t.tolist() for t in theirs[:2]), strict=True)) - doubtful
