"""`mine`: embeddings and identities in, triplets, suspects and statistics out.

    check rows ─► choose anchors ─► pair up ─► search ─► select ─► tables and counts

Ray, files and checkpoints are elsewhere; this is a function of its arguments alone, whatever the
number of threads. Run it on random faces:

    python -m benchmarks.mining
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from facequarry.miner.config import MinerConfig
from facequarry.miner.core.memory import explaining_memory
from facequarry.miner.core.search import Workers
from facequarry.miner.core.stopwatch import Stopwatch
from facequarry.miner.engines.opening import OpenEngine, opener
from facequarry.miner.kernels.layout import Int64Array
from facequarry.miner.selection.observe import observe
from facequarry.miner.selection.pairs import choose_anchors, cut_anchors, pair_up
from facequarry.miner.selection.recall import measure_recall
from facequarry.miner.selection.rows import check_rows
from facequarry.miner.selection.select import Selector
from facequarry.miner.selection.stats import MiningStats
from facequarry.miner.selection.tables import suspect_table, triplet_table

DEFAULT_CONFIG = MinerConfig()

_MINE_LESS = (
    "set or lower miner.anchors, miner.positives_per_anchor (with miner.positives = random) or "
    "miner.negatives_per_pair, or mine fewer rows, as a run does with refresh.budget = steps"
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mined:
    """What a mining pass found."""

    table: pa.Table
    """anchor, positive, negative int64; d2_ap, d2_an float32; kind dictionary<string>: sorted by
    anchor, positive and the order in which the pair's negatives were preferred."""

    suspects: pa.Table
    """reason string; face_a < face_b int64; d2 float32: each pair once, sorted by these."""

    stats: MiningStats
    """What was counted."""


def mine(
    embeddings: ArrayLike,
    identities: ArrayLike,
    *,
    config: MinerConfig = DEFAULT_CONFIG,
    seed: int = 0,
    row_ids: Int64Array | None = None,
    open_engine: OpenEngine | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Mined:
    """Mine triplets: for each ordered anchor-positive pair, negatives of other identities.

    Args:
        embeddings: (N, D) float32 unit rows (norm within 1e-3 of 1, used as given); float16 and
            float64 are converted once.
        identities: (N,) integers or strings; the rows of an identity need not be together.
        config: see `MinerConfig`.
        seed: any integer; random anchors, positives and negatives follow a hash of it.
        row_ids: (N,) int64, strictly ascending; stands for the row numbers in the tables, in
            hashes and in ties. None numbers the rows from 0.
        open_engine: opens another engine than `config.engine` names, such as one that asks other
            processes; its answers must be as complete.
        progress: called now and then with (anchor, row) products looked at and about how many
            there will be.

    Returns:
        The tables and the statistics. The exact engine's are the same for every number of threads,
        but for its seconds and its undecided share; the tables are the same for every engine that
        searches exhaustively.

    Raises:
        BadInput: wrong shapes or types, NaN or infinity, rows that are not unit length, fewer
            than two identities, no identity with two faces, or an index that FAISS refuses.
        NotInstalled: the configuration needs FAISS and it is not there.
        OutOfMemory: the sentence says what to set.
    Source: FaceNet (Schroff et al. 2015), section 3.2.
    """
    watch = Stopwatch(time.perf_counter)
    x = np.asarray(embeddings)
    with explaining_memory(_work(x, config), _MINE_LESS), Workers(config.threads) as workers:
        rows = check_rows(x, identities, row_ids)
        anchors = choose_anchors(rows, config.anchors, seed)
        if open_engine is None:
            open_engine = opener(anchors.size, seed, _up_to(rows.ids.size * anchors.size, progress))
        with open_engine(rows, config, workers) as engine:
            watch.lap("prepare")
            selector = Selector(rows, engine, config, seed, workers)
            bands = cut_anchors(rows, anchors, config)
            triplets, suspects = selector.select(
                pair_up(rows, band, config, seed, workers) for band in bands
            )
            watch.lap("select", search=selector.search_s)
            recall = measure_recall(rows, engine, config, seed, workers)
            watch.lap("recall")
            report = engine.report()
        table = triplet_table(rows.ids, triplets)
        stats = selector.counts.stats(
            rows,
            anchors.size,
            report,
            recall,
            observed=observe(table, identities, row_ids),
            seconds=watch.seconds,
        )
        _log_pass(stats)
        return Mined(
            table=table,
            suspects=suspect_table(rows.ids, suspects),
            stats=stats,
        )


def _work(x: NDArray[Any], config: MinerConfig) -> str:
    """Say what is mined, for a sentence."""
    shape = " x ".join(str(size) for size in x.shape)
    num_anchors = f"{config.anchors:,}" if config.anchors else "all"
    return f"mining {shape} embeddings with {num_anchors} of them as anchors"


def _up_to(total: int, progress: Callable[[int, int], None] | None) -> Callable[[int], None] | None:
    """Return what tells progress of the products looked at; about `total` there are."""
    return None if progress is None else lambda done: progress(min(done, total), total)


def _log_pass(stats: MiningStats) -> None:
    _log.info(
        "%s mined %d rows | %d anchors | %d pairs | semi-hard %.1f %% | %.1f s",
        stats.engine,
        stats.rows,
        stats.num_anchors,
        stats.pairs,
        100 * stats.semi_hard / max(1, stats.pairs),
        sum(stats.seconds.values()),
    )
