"""What an approximate engine misses: a sample of anchors is mined a second time, exactly."""

from __future__ import annotations

from facequarry.miner.config import MinerConfig
from facequarry.miner.core.hashing import RECALL
from facequarry.miner.core.search import Search, Workers
from facequarry.miner.engines.exact import ExactSearch
from facequarry.miner.engines.resolve import Resolving
from facequarry.miner.kernels.layout import Rows
from facequarry.miner.selection.pairs import choose_anchors, pair_up
from facequarry.miner.selection.select import Selector
from facequarry.miner.selection.stats import Recall

RECALL_ANCHORS = 256
"""Anchors of the sample."""


def measure_recall(
    rows: Rows, engine: Search, config: MinerConfig, seed: int, workers: Workers
) -> Recall:
    """Search a sample of anchors with both engines.

    Returns:
        The exact engine's semi-hard pairs, and the share of them for which the other one finds a
        negative in the band; None when there are none.
    """
    if engine.report().engine == "exact":
        return Recall(0, None)
    if isinstance(engine, Resolving):
        engine = engine.first  # what it hands over is found, of course
    sample = choose_anchors(
        rows, min(RECALL_ANCHORS, config.anchors or RECALL_ANCHORS), seed, RECALL
    )
    pairs = pair_up(rows, sample, config, seed, workers)
    exact = Selector(rows, ExactSearch(rows, workers), config, seed, workers).has_semi_hard(pairs)
    found = Selector(rows, engine, config, seed, workers).has_semi_hard(pairs)
    total = int(exact.sum())
    return Recall(total, float((exact & found).sum() / total) if total else None)
