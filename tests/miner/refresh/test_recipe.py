from __future__ import annotations

from dataclasses import replace

import numpy as np

from facequarry.datasets.faces.split import Split
from facequarry.miner.config import MinerConfig
from facequarry.miner.refresh.recipe import RefreshPlan


def test_anchors_are_budgeted_by_what_training_consumes() -> None:
    plan = RefreshPlan(
        config=MinerConfig(positives="random", positives_per_anchor=4, negatives_per_pair=2),
        split=Split(),
        rows_needed=1000,
        seed=0,
    )
    many = np.repeat(np.arange(1000), 5)
    assert plan.resolved(many).anchors == 125
    assert plan.resolved(many[:100]).anchors is None
    assert replace(plan, rows_needed=None).resolved(many).anchors is None
    told = replace(plan, config=MinerConfig(anchors=7))
    assert told.resolved(many).anchors == 7


def test_the_budget_counts_the_positives_that_there_are() -> None:
    config = MinerConfig(positives="random", positives_per_anchor=4)
    plan = RefreshPlan(config=config, split=Split(), rows_needed=1000, seed=0)
    pairs_and_singles = np.r_[np.repeat(np.arange(900), 2), np.arange(900, 1500)]
    assert plan.resolved(pairs_and_singles).anchors == 1000


def test_nothing_to_mine_is_left_for_mining_to_say() -> None:
    plan = RefreshPlan(config=MinerConfig(), split=Split(), rows_needed=10, seed=0)
    assert plan.resolved(np.arange(9)).anchors is None
