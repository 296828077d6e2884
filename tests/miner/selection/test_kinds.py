from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

import facequarry.miner.selection.kinds
import facequarry.miner.selection.pairs
from facequarry.miner import Mined, MinerConfig, mine
from facequarry.miner.kernels.layout import Int64Array, Rows
from facequarry.miner.selection.pairs import Pairs
from tests.miner.inputs import configs, galleries, separated
from tests.miner.oracle import defined_d2


def check(x: NDArray[np.float32], identities: list[int], config: MinerConfig, mined: Mined) -> None:
    """Count every negative of every pair by the definitions."""
    assert mined.kinds is not None
    floor = np.float32(config.duplicate_floor or 0)
    totals = {"hard": 0, "semi_hard": 0, "easy": 0}
    columns = mined.kinds.to_pydict()
    for a, p, *counts in zip(*columns.values(), strict=True):
        d2_ap = defined_d2(x[a], x[p])
        edge = np.float32(float(d2_ap) + config.margin)
        found = {"hard": 0, "semi_hard": 0, "easy": 0}
        for n in range(len(x)):
            d2_an = defined_d2(x[a], x[n])
            if identities[n] == identities[a] or d2_an < floor:
                continue
            is_hard, is_near = d2_an <= d2_ap, d2_an < edge
            found["hard" if is_hard else "semi_hard" if is_near else "easy"] += 1
        assert counts == list(found.values())
        totals = {kind: totals[kind] + found[kind] for kind in totals}
    assert mined.stats.negatives_by_kind == totals
    assert mined.kinds.num_rows == mined.stats.pairs - mined.stats.suspect
    order = list(zip(columns["anchor"], columns["positive"], strict=True))
    assert order == sorted(set(order))


@settings(deadline=None, max_examples=100)
@given(galleries(), configs())
def test_negatives_of_every_pair_are_counted_by_the_definitions(
    gallery: tuple[NDArray[np.float32], list[int]], config: MinerConfig
) -> None:
    config = replace(config, count_kinds=True)
    check(*gallery, config, mine(*gallery, config=config))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (64, 2048)])
@pytest.mark.parametrize("noise", [0.7, 1e-3])
def test_tiles_do_not_show_in_the_counts(
    monkeypatch: pytest.MonkeyPatch, rows: int, columns: int, noise: float
) -> None:
    monkeypatch.setattr(facequarry.miner.selection.kinds, "TILE_ROWS", rows)
    monkeypatch.setattr(facequarry.miner.selection.kinds, "TILE_COLUMNS", columns)
    x, identities = separated(10, 4, 16, noise)
    config = MinerConfig(count_kinds=True, margin=0.1, duplicate_floor=1e-6, threads=2)
    check(x, identities.tolist(), config, mine(x, identities, config=config))


@pytest.mark.parametrize("searches", [1, 7, 40])
@pytest.mark.parametrize("positives", ["all", "random"])
def test_anchors_counted_together_do_not_show(
    monkeypatch: pytest.MonkeyPatch, searches: int, positives: Any
) -> None:
    x, identities = separated(10, 4, 16, 0.7)
    per_anchor = 2 if positives == "random" else None
    config = MinerConfig(
        count_kinds=True,
        positives=positives,
        positives_per_anchor=per_anchor,
        duplicate_floor=0.3,
        positive_cap=1.2 if positives == "all" else None,
    )
    usual = mine(x, identities, config=config)
    paired: list[int] = []

    def pair_up(rows: Rows, anchors: Int64Array, *others: Any) -> Pairs:
        paired.append(anchors.size)
        return facequarry.miner.selection.pairs.pair_up(rows, anchors, *others)

    monkeypatch.setattr(facequarry.miner.selection.pairs, "MOST_SEARCHES", searches)
    monkeypatch.setattr(facequarry.miner.selection.kinds, "pair_up", pair_up)
    other = mine(x, identities, config=config)
    assert usual.kinds is not None and usual.kinds.equals(other.kinds)
    assert usual.stats.negatives_by_kind == other.stats.negatives_by_kind
    assert sum(paired) == 40 and max(paired) <= max(1, searches // 3)


def test_kinds_are_counted_only_where_asked_for() -> None:
    mined = mine(*separated(4, 3, 8, 0.7))
    assert mined.kinds is None
    assert mined.stats.negatives_by_kind is None
