"""The exact engine on galleries that are hard to filter, against the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import facequarry.miner.engines.exact
from benchmarks.galleries import MakeGallery, collapsed, untrained
from facequarry.miner import Mined, MinerConfig, mine
from facequarry.miner.engines.exact import is_symmetric
from facequarry.miner.engines.multiply import onednn_is_exact, onednn_pays
from tests.miner.inputs import assert_equals
from tests.miner.oracle import mine_slowly

CONFIGS = {
    "nearest": MinerConfig(engine="exact", threads=2),
    "random": MinerConfig(engine="exact", negatives="random", negatives_per_pair=2, threads=2),
    "counted": MinerConfig(engine="exact", duplicate_floor=1.9, fallback=("hard",), threads=2),
    "few anchors": MinerConfig(engine="exact", anchors=40, threads=2),  # a tile serves one side
}


def assert_same(ours: Mined, theirs: Mined) -> None:
    assert ours.table.equals(theirs.table)
    assert ours.suspects.equals(theirs.suspects)
    assert ours.stats == theirs.stats


@pytest.mark.parametrize("gallery", [untrained, collapsed])
@pytest.mark.parametrize("columns", [64, 300])  # in blocks of 128: part of one, and more than two
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_galleries_of_any_shape_follow_the_definitions(
    monkeypatch: pytest.MonkeyPatch, gallery: MakeGallery, columns: int, config: MinerConfig
) -> None:
    monkeypatch.setattr(facequarry.miner.engines.exact, "TILE_ROWS", 32)
    monkeypatch.setattr(facequarry.miner.engines.exact, "TILE_COLUMNS", columns)
    x, identities = gallery(100 if columns == 64 else 310, faces_per_identity=5)
    mined = mine(x, identities, config=config)
    assert_equals(mined, mine_slowly(x, identities.tolist(), config, 0))


@pytest.mark.parametrize("spread", [1e-21, 1e-23, 1e-25])
def test_distances_that_underflow_are_decided_by_the_definition(spread: float) -> None:
    x = np.zeros((120, 16), np.float32)
    x[:, 0] = 1
    x[:, 1:] = spread * np.random.default_rng(0).normal(size=(120, 15))
    identities = np.arange(120) // 4
    config = MinerConfig(engine="exact", margin=1e-7, fallback=("hard", "easy"))
    mined = mine(x, identities, config=config)
    assert_equals(mined, mine_slowly(x, identities.tolist(), config, 0))


def test_tiles_serve_both_sides_of_all_but_small_galleries_and_few_anchors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facequarry.miner.engines.exact, "ONE_SIDED_UP_TO", 2048)
    assert not is_symmetric(2048, 2048)
    assert is_symmetric(2049, 2049) and is_symmetric(3501, 5000)
    assert not is_symmetric(3500, 5000)


def test_a_row_far_from_all_others_costs_only_where_it_is_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TILE_ROWS", "TILE_COLUMNS", "CHUNK_ROWS"):
        monkeypatch.setattr(facequarry.miner.engines.exact, name, 16)
    random = np.random.default_rng(0)
    x = np.ones((600, 64)) + 0.003 * random.normal(size=(600, 64))
    x[431] = -1
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    gallery, identities = x.astype(np.float32), np.arange(600) // 4
    config = MinerConfig(engine="exact", margin=1e-4, threads=1)
    mined = mine(gallery, identities, config=config)
    assert mined.stats.undecided_share is not None
    assert mined.stats.undecided_share < 0.1  # among tiles that hold the row, about a half
    assert_equals(mined, mine_slowly(gallery, identities.tolist(), config, 0))


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_torch_may_be_told_to_round_after_a_product_was_chosen(precision: str) -> None:
    x, identities = untrained(600)
    expected = mine(x, identities)
    torch.set_float32_matmul_precision(precision)
    try:
        assert_same(mine(x, identities), expected)
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_torch_may_have_another_default_type(kind: torch.dtype) -> None:
    gallery, config = untrained(600), MinerConfig(engine="exact")
    expected = mine(*gallery, config=config)
    for trial in (onednn_is_exact, onednn_pays):
        trial.cache_clear()
    torch.set_default_dtype(kind)
    try:
        assert_same(mine(*gallery, config=config), expected)
    finally:
        torch.set_default_dtype(torch.float32)
