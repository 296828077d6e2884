"""The exact engine's change from 8-bit products to float32, half way down a tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import facequarry.miner.engines.exact
import facequarry.miner.engines.scratch
from benchmarks.galleries import MakeGallery, collapsed, untrained
from facequarry.miner import Mined, MinerConfig, mine
from facequarry.miner.engines.exact import is_symmetric
from facequarry.miner.engines.multiply import int8_is_exact, int8_pays, onednn_is_exact, onednn_pays
from facequarry.miner.kernels.scan import scan_tile
from tests.miner.inputs import assert_equals
from tests.miner.oracle import mine_slowly

CONFIGS = {
    "nearest": MinerConfig(engine="exact", threads=2),
    "random": MinerConfig(engine="exact", negatives="random", negatives_per_pair=2, threads=2),
    "counted": MinerConfig(engine="exact", duplicate_floor=1.9, fallback=("hard",), threads=2),
    "few anchors": MinerConfig(engine="exact", anchors=40, threads=2),  # a tile serves one side
}


@dataclass
class Seen:
    """What the engine did."""

    given_up: int = 0
    cut_short: int = 0
    """Tiles that were left after some of their rows."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Watches an engine that takes 8-bit products whatever they cost here."""
    if not int8_is_exact(128):
        pytest.skip("8-bit products are not exact on this processor")
    seen = Seen()
    give_up = facequarry.miner.engines.scratch.Scratch.give_up

    def give_up_seen(turn: Any) -> None:
        seen.given_up += 1
        give_up(turn)

    def scan_tile_seen(met: Any, tile: Any, *others: Any) -> tuple[int, int]:
        stopped, decided = scan_tile(met, tile, *others)
        seen.cut_short += 0 < stopped < len(tile)
        return stopped, decided

    monkeypatch.setattr(facequarry.miner.engines.scratch.Scratch, "give_up", give_up_seen)
    monkeypatch.setattr(facequarry.miner.engines.exact, "scan_tile", scan_tile_seen)
    monkeypatch.setattr(facequarry.miner.engines.exact, "INT8_FROM", 0)
    monkeypatch.setattr(facequarry.miner.engines.exact, "int8_pays", lambda dimension: True)
    return seen


def by_floats(monkeypatch: pytest.MonkeyPatch, mine_again: Callable[[], Mined]) -> Mined:
    """Return what the engine mines where 8-bit products are forbidden."""
    with monkeypatch.context() as patch:
        patch.setattr(facequarry.miner.engines.exact, "int8_pays", lambda dimension: False)
        return mine_again()


def assert_same(ours: Mined, theirs: Mined) -> None:
    assert ours.table.equals(theirs.table)
    assert ours.suspects.equals(theirs.suspects)
    assert ours.stats == theirs.stats


@pytest.mark.parametrize("gallery", [untrained, collapsed])
@pytest.mark.parametrize("columns", [64, 300])  # in blocks of 128: part of one, and more than two
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_tile_given_up_half_way_is_gone_on_with_in_float32(
    monkeypatch: pytest.MonkeyPatch,
    seen: Seen,
    gallery: MakeGallery,
    columns: int,
    config: MinerConfig,
) -> None:
    monkeypatch.setattr(facequarry.miner.engines.exact, "TILE_ROWS", 32)
    monkeypatch.setattr(facequarry.miner.engines.exact, "TILE_COLUMNS", columns)
    x, identities = gallery(100 if columns == 64 else 310, faces_per_identity=5)
    assert x.shape[1] == 128
    mined = mine(x, identities, config=config)
    assert seen.given_up > 0 and seen.cut_short > 0
    assert_equals(mined, mine_slowly(x, identities.tolist(), config, 0))
    given_up = seen.given_up
    assert_same(mined, by_floats(monkeypatch, lambda: mine(x, identities, config=config)))
    assert seen.given_up == given_up


@pytest.mark.parametrize("gallery", [untrained, collapsed])
def test_tiles_of_their_usual_size_are_given_up_and_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, seen: Seen, gallery: MakeGallery
) -> None:
    x, identities = gallery(1500)
    config = MinerConfig(engine="exact", positives="random", positives_per_anchor=2, threads=2)
    mined = mine(x, identities, config=config)
    assert seen.given_up > 0 and seen.cut_short > 0
    assert_same(mined, by_floats(monkeypatch, lambda: mine(x, identities, config=config)))


@pytest.mark.usefixtures("seen")
@pytest.mark.parametrize("spread", [1e-21, 1e-23, 1e-25])
def test_distances_that_underflow_are_decided_by_the_definition(
    monkeypatch: pytest.MonkeyPatch, spread: float
) -> None:
    x = np.zeros((120, 16), np.float32)
    x[:, 0] = 1
    x[:, 1:] = spread * np.random.default_rng(0).normal(size=(120, 15))
    identities = np.arange(120) // 4
    config = MinerConfig(engine="exact", margin=1e-7, fallback=("hard", "easy"))
    mined = mine(x, identities, config=config)
    assert_equals(mined, mine_slowly(x, identities.tolist(), config, 0))
    assert_same(mined, by_floats(monkeypatch, lambda: mine(x, identities, config=config)))


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
    for trial in (onednn_is_exact, onednn_pays, int8_pays):
        trial.cache_clear()
    torch.set_default_dtype(kind)
    try:
        assert_same(mine(*gallery, config=config), expected)
    finally:
        torch.set_default_dtype(torch.float32)
