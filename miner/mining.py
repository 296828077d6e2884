"""`mine`: embeddings and identities in, triplets, suspects and statistics out.

    check rows ─► choose anchors ─► pair up ─► search ─► select ─► tables and counts

Ray, files and checkpoints are elsewhere; this is a function of its arguments alone, whatever the
number of threads. Run it on random faces:

    python -m benchmarks.mining
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from miner.approximate import IndexSearch
from miner.config import MinerConfig
from miner.cost import choose_engine
from miner.exact import ExactSearch
from miner.gpu import open_gpu, uses_gpu
from miner.kinds import count_kinds
from miner.layout import Int64Array, Report, Rows
from miner.memory import explaining_memory
from miner.observe import observe
from miner.pairs import RECALL, choose_anchors, cut_anchors, pair_up
from miner.resolve import Resolving
from miner.routing import RoutedSearch
from miner.rows import check_rows
from miner.search import Search, Workers
from miner.select import (
    KINDS,
    REASONS,
    Counts,
    Selector,
    Suspects,
    Triplets,
    cap_uses,
    concatenate,
    in_order,
    num_pairs,
)
from miner.stats import MiningStats

RECALL_ANCHORS = 256
"""Anchors that are mined a second time, exactly, to measure what an approximate engine missed."""

DEFAULT_CONFIG = MinerConfig()

OpenEngine = Callable[[Rows, MinerConfig, Workers], AbstractContextManager[Search]]
"""Opens an engine over a gallery."""

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

    kinds: pa.Table | None = None
    """anchor, positive, hard, semi_hard, easy int64: how many negatives of each kind a pair has,
    suspects left out; None unless `count_kinds` asks for it."""


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
        ValueError: wrong shapes or types, NaN or infinity, rows that are not unit length, fewer
            than two identities, no identity with two faces, or an index that FAISS refuses.
        ImportError: the configuration needs FAISS and it is not installed.
        OutOfMemory: the sentence says what to set.
    Source: FaceNet (Schroff et al. 2015), section 3.2.
    """
    x = np.asarray(embeddings)
    shape = " x ".join(str(size) for size in x.shape)
    num_anchors = f"{config.anchors:,}" if config.anchors else "all"
    work = f"mining {shape} embeddings with {num_anchors} of them as anchors"
    with explaining_memory(work, _MINE_LESS):
        return _mine(x, identities, config, seed, row_ids, open_engine, progress)


def _mine(
    embeddings: ArrayLike,
    identities: ArrayLike,
    config: MinerConfig,
    seed: int,
    row_ids: Int64Array | None,
    open_engine: OpenEngine | None,
    progress: Callable[[int, int], None] | None,
) -> Mined:
    began = time.perf_counter()
    rows = check_rows(embeddings, identities, row_ids)
    anchors = choose_anchors(rows, config.anchors, seed)
    total = anchors.size * rows.ids.size
    watch = None if progress is None else lambda done: progress(min(done, total), total)
    with (
        Workers(config.threads) as workers,
        (open_engine or _opener(anchors.size, seed, watch))(rows, config, workers) as engine,
    ):
        prepared = time.perf_counter()
        selector = Selector(rows, engine, config, seed, workers)
        parts = [
            selector.select(pair_up(rows, chunk, config, seed, workers))
            for chunk in cut_anchors(rows, anchors, config)
        ]
        found = in_order(rows.ids, [part[0] for part in parts])
        suspects = concatenate(Suspects, [part[1] for part in parts])
        triplets = found
        if config.max_uses_as_negative is not None:
            triplets = cap_uses(rows.ids, found, config.max_uses_as_negative, seed)
            selector.counts.over_max_uses = found.anchor.size - triplets.anchor.size
            selector.counts.pairs_without_rows += num_pairs(found) - num_pairs(triplets)
        mined = time.perf_counter()
        recall_pairs, recall = _recall(rows, engine, config, seed, workers)
        measured = time.perf_counter()
        kinds = None
        if config.count_kinds:
            kinds = count_kinds(rows, anchors, config, seed, workers)
        seconds = {
            "prepare": prepared - began,
            "search": selector.search_s,
            "select": mined - prepared - selector.search_s,
            "recall": measured - mined,
            "count": time.perf_counter() - measured,
        }
        report = engine.report()
    stats = _stats(rows, anchors, report, selector.counts, triplets, recall_pairs, recall, seconds)
    table = _triplet_table(rows.ids, triplets)
    stats = replace(
        stats,
        dimension=rows.x.shape[1],
        observed=observe(table, identities, row_ids),
        negatives_by_kind=None if kinds is None else kinds.totals(),
    )
    _log.info(
        "%s mined %d rows | %d anchors | %d pairs | semi-hard %.1f %% | %.1f s",
        stats.engine,
        stats.rows,
        stats.num_anchors,
        stats.pairs,
        100 * stats.semi_hard / max(1, stats.pairs),
        sum(seconds.values()),
    )
    return Mined(
        table=table,
        suspects=_suspect_table(rows.ids, suspects),
        stats=stats,
        kinds=None if kinds is None else kinds.table(rows.ids),
    )


def _opener(num_anchors: int, seed: int, progress: Callable[[int], None] | None) -> OpenEngine:
    """Return what opens the engine that the configuration names."""

    @contextlib.contextmanager
    def open_engine(rows: Rows, config: MinerConfig, workers: Workers) -> Iterator[Search]:
        name = choose_engine(config, rows.ids.size, num_anchors)
        if name == "exact":
            with _open_exact(rows, config, workers, progress) as engine:
                yield engine
            return
        with contextlib.ExitStack() as stack:
            approximate: Search
            if name == "routed":
                approximate = RoutedSearch(rows, config, workers, seed)
            else:
                approximate = stack.enter_context(IndexSearch(rows, config, workers, seed))
            if config.resolve == "exact":
                approximate = Resolving(approximate, lambda: ExactSearch(rows, workers))
            yield approximate

    return open_engine


@contextlib.contextmanager
def _open_exact(
    rows: Rows, config: MinerConfig, workers: Workers, progress: Callable[[int], None] | None
) -> Iterator[Search]:
    if uses_gpu(config):
        with open_gpu(rows, config) as engine:
            yield engine
    else:
        yield ExactSearch(rows, workers, progress)


def _recall(
    rows: Rows, engine: Search, config: MinerConfig, seed: int, workers: Workers
) -> tuple[int, float | None]:
    """Search a sample of anchors with both engines.

    Returns:
        The exact engine's semi-hard pairs, and the share of them for which the other one finds a
        negative in the band; None when there are none.
    """
    if engine.report().engine == "exact":
        return 0, None
    if isinstance(engine, Resolving):
        engine = engine.first  # what it hands over is found, of course
    sample = choose_anchors(
        rows, min(RECALL_ANCHORS, config.anchors or RECALL_ANCHORS), seed, RECALL
    )
    pairs = pair_up(rows, sample, config, seed, workers)
    exact = Selector(rows, ExactSearch(rows, workers), config, seed, workers).has_semi_hard(pairs)
    found = Selector(rows, engine, config, seed, workers).has_semi_hard(pairs)
    total = int(exact.sum())
    return total, float((exact & found).sum() / total) if total else None


def _stats(
    rows: Rows,
    anchors: Int64Array,
    report: Report,
    counts: Counts,
    triplets: Triplets,
    recall_pairs: int,
    recall: float | None,
    seconds: dict[str, float],
) -> MiningStats:
    by_kind = np.bincount(triplets.kind, minlength=len(KINDS))
    return MiningStats(
        engine=report.engine,
        index=report.index,
        num_embedded=rows.ids.size,
        num_identities=np.unique(rows.first).size,
        num_anchors=anchors.size,
        pairs=counts.pairs,
        semi_hard=counts.semi_hard,
        band_empty=counts.band_empty,
        beyond_search=counts.beyond_search,
        suspect=counts.suspect,
        suspect_negatives=counts.suspect_negatives,
        rows=triplets.anchor.size,
        rows_by_kind={kind: int(count) for kind, count in zip(KINDS, by_kind, strict=True)},
        pairs_by_rung={str(rung): count for rung, count in counts.rung.items()},
        pairs_without_rows=counts.pairs_without_rows,
        over_max_uses=counts.over_max_uses,
        d2_ap_histogram=counts.d2_ap.tolist(),
        nearest_d2_an_histogram=counts.nearest_d2_an.tolist(),
        largest_k=report.largest_k,
        recall_pairs=recall_pairs,
        recall_vs_exact=recall,
        num_resolved=report.num_resolved,
        symmetric=report.symmetric,
        undecided_share=report.undecided_share,
        seconds=seconds,
    )


def _triplet_table(ids: Int64Array, triplets: Triplets) -> pa.Table:
    return pa.table(
        {
            "anchor": ids[triplets.anchor],
            "positive": ids[triplets.positive],
            "negative": ids[triplets.negative],
            "d2_ap": triplets.d2_ap,
            "d2_an": triplets.d2_an,
            "kind": pa.DictionaryArray.from_arrays(pa.array(triplets.kind), pa.array(KINDS)),
        }
    )


def _suspect_table(ids: Int64Array, suspects: Suspects) -> pa.Table:
    faces: NDArray[np.int64] = np.stack([ids[suspects.face_a], ids[suspects.face_b]])
    faces.sort(axis=0)
    # d2 is symmetric: a pair found from both sides is the same pair.
    keys = np.concatenate([suspects.reason[None].astype(np.int64), faces])
    once, first = np.unique(keys, axis=1, return_index=True)
    return pa.table(
        {
            "reason": pa.array([REASONS[reason] for reason in once[0]], pa.string()),
            "face_a": once[1],
            "face_b": once[2],
            "d2": suspects.d2[first],
        }
    )
