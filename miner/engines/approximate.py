"""The FAISS engine: each anchor's K nearest rows are looked at, K doubling while it can help.

Distances that FAISS returns only say where the rows it did not return begin; every candidate is
measured again by the defined d2. FAISS knows no identities: it is asked for as many rows more as
an anchor's own identity has (twice as fast as a selector of ids, which takes a call per identity,
on a flat or an inverted index of 20,000 rows). With a flat index, or inverted lists that are all
visited, that makes answers proofs, and once K covers the gallery they are the exact engine's. With
any other index an answer is what was found.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from facequarry.miner.config import MinerConfig
from facequarry.miner.core.distance import index_error
from facequarry.miner.core.search import Workers
from facequarry.miner.engines.faiss_index import build_index, import_faiss, looks_at_all, to_gpus
from facequarry.miner.engines.faiss_index import check_index as check_index
from facequarry.miner.kernels.hashed_d2 import d2_of_candidates
from facequarry.miner.kernels.layout import (
    NEAREST,
    Best,
    Found,
    Int64Array,
    Query,
    Report,
    Rows,
    bests_of,
    no_best,
    open_searches,
    take_searches,
)
from facequarry.miner.kernels.lists import scan_candidates

# Candidates held at a time: with K large, fewer anchors are searched together.
_MAX_CANDIDATES = 1 << 22


class IndexSearch:
    """Searches a FAISS index of the gallery; use it as a context manager.

    Args:
        rows: the gallery.
        config: faiss_index, nprobe, train_rows, faiss_gpus, neighbours and neighbours_limit are
            read.
        workers: threads for measuring the candidates again; FAISS uses as many of its own.
        seed: of the hash that draws the rows to train with.

    Raises:
        NotInstalled: FAISS is not there.
        BadInput: FAISS refuses the factory string, cannot train the index with so few rows, or
            nprobe does not fit the index, or there is no GPU where one is asked for.
        OutOfMemory: the index does not fit.
    """

    def __init__(self, rows: Rows, config: MinerConfig, workers: Workers, seed: int = 0) -> None:
        self._faiss = import_faiss()
        self._rows = rows
        self._config = config
        self._workers = workers
        self._threads_before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(workers.threads)
        try:
            index = build_index(self._faiss, rows, config, seed)
            # The error of distances is proven for FAISS on the CPU alone.
            self.exhaustive = config.faiss_gpus == "none" and looks_at_all(self._faiss, index)
            self._index = to_gpus(self._faiss, index, config.faiss_gpus)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._error = index_error(rows.x.shape[1], float(rows.norms2.max()))
        self.largest_k = 0

    def __enter__(self) -> IndexSearch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._faiss.omp_set_num_threads(self._threads_before)

    def report(self) -> Report:
        """Say what the searches took so far."""
        return Report(engine="faiss", index=self._config.faiss_index, largest_k=self.largest_k)

    def search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        """Answer queries about one band of anchors (see `miner.search.Search`)."""
        found = [
            Found(best=no_best(query), complete=np.zeros(query.slot.size, np.bool_))
            for query in queries
        ]
        largest = min(self._config.neighbours_limit, self._rows.ids.size)
        own = (self._rows.last - self._rows.first)[anchors]
        # Anchors with as many faces of their own are asked for as many rows.
        slots = np.argsort(own, kind="stable")
        k = min(self._config.neighbours, largest)
        while slots.size:
            chunk = max(1, _MAX_CANDIDATES // k)
            open_slots = []
            for start in range(0, slots.size, chunk):
                part = np.sort(slots[start : start + chunk])
                asked = min(largest, k + int(own[part].max()))
                self.largest_k = max(self.largest_k, asked)
                open_slots.append(self._search_k(anchors, part, asked, queries, found))
            slots = np.concatenate(open_slots)
            if k == largest:
                break
            k = min(2 * k, largest)
        return found

    def _search_k(
        self,
        anchors: Int64Array,
        slots: Int64Array,
        k: int,
        queries: Sequence[Query],
        found: list[Found],
    ) -> Int64Array:
        """Answer all searches of the anchors at `slots` anew; return the slots still open."""
        rows = self._rows
        asked = anchors[slots]
        near, candidates = self._index.search(rows.x[asked], k)
        d2 = np.empty(candidates.shape, np.float32)
        self._workers.each(
            slots.size,
            lambda begin, end: d2_of_candidates(rows.x, asked, candidates, d2, begin, end),
        )
        # No row that was not returned is nearer than this. Rows are missing (-1) only when every
        # row that the index would visit was returned.
        frontier = near[:, -1].astype(np.float64) - self._error
        frontier[candidates[:, -1] < 0] = np.inf
        if k == rows.ids.size:
            frontier[:] = np.inf
        position = np.full(len(anchors), -1, np.int64)
        position[slots] = np.arange(slots.size)
        is_open = np.zeros(slots.size, np.bool_)
        for query, answer in zip(queries, found, strict=True):
            chosen = np.flatnonzero(position[query.slot] >= 0)
            part = take_searches(query, chosen, position)
            searches = open_searches([part], slots.size)
            self._workers.each(
                slots.size,
                functools.partial(scan_candidates, rows, searches, asked, candidates, d2),
            )
            best = bests_of([part], searches)[0]
            resolved = _is_resolved(part, best, frontier[part.slot])
            for name in Best._fields:
                if getattr(best, name).size:
                    getattr(answer.best, name)[chosen] = getattr(best, name)
            answer.complete[chosen] = (resolved & self.exhaustive) | (part.low > part.high)
            is_open[part.slot[~resolved]] = True
        return slots[is_open]


def _is_resolved(query: Query, best: Best, frontier: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (Q,) whether rows beyond the frontier (Q,) could not change the lists."""
    resolved = (query.high < frontier) | (query.high < query.low)
    if query.order == NEAREST and not query.counted:
        # Strictly: a row exactly as far might have the lower id.
        resolved |= (best.num == query.wanted) & (best.d2[:, -1] < frontier)
    return resolved | np.isinf(frontier)
