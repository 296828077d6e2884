"""The FAISS engine: each anchor's K nearest rows are looked at, K doubling while it can help.

Distances that FAISS returns only say where the rows it did not return begin; every candidate is
measured again by the defined d2. With a flat index, or inverted lists that are all visited, that
makes answers proofs, and once K covers the gallery they are the exact engine's. With any other
index an answer is what was found.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Iterator, Sequence
from types import ModuleType, TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miner.config import MinerConfig
from miner.distance import index_error
from miner.kernels.distance import d2_of_candidates
from miner.kernels.lists import scan_candidates
from miner.layout import (
    NEAREST,
    Best,
    Float32Array,
    Found,
    Int64Array,
    Query,
    Rows,
    bests_of,
    no_best,
    open_searches,
)
from miner.search import Report, Workers

# Candidates held at a time: with K large, fewer anchors are searched together.
_MAX_CANDIDATES = 1 << 22


class IndexSearch:
    """Searches a FAISS index of the gallery; use it as a context manager.

    Args:
        rows: the gallery.
        config: faiss_index, nprobe, neighbours, neighbours_limit and threads are read.
        workers: threads for measuring the candidates again; FAISS uses as many of its own.

    Raises:
        ImportError: FAISS is not installed.
        ValueError: FAISS refuses the factory string, cannot train the index with so few rows, or
            nprobe does not fit the index.
    """

    def __init__(self, rows: Rows, config: MinerConfig, workers: Workers) -> None:
        self._faiss = import_faiss()
        self._rows = rows
        self._config = config
        self._workers = workers
        self._threads_before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(workers.threads)
        try:
            self._index = _build_index(self._faiss, rows.x, config)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.exhaustive = _looks_at_all(self._faiss, self._index)
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
        k = min(self._config.neighbours, largest)
        slots = np.arange(len(anchors))
        while slots.size:
            self.largest_k = max(self.largest_k, k)
            chunk = max(1, _MAX_CANDIDATES // k)
            open_slots = [
                self._search_k(anchors, slots[start : start + chunk], k, queries, found)
                for start in range(0, slots.size, chunk)
            ]
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
            part = _subset(query, chosen, position)
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
            answer.complete[chosen] = resolved & self.exhaustive
            is_open[part.slot[~resolved]] = True
        return slots[is_open]


def import_faiss() -> ModuleType:
    """Return the faiss module.

    Raises:
        ImportError: it is not installed; the sentence says how to get it.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ImportError(
            "engine = faiss needs FAISS, which is not installed; "
            "try: pip install 'facequarry[cpu]', or set engine = exact"
        ) from error


def check_index(config: MinerConfig, dimension: int, num_rows: int | None = None) -> None:
    """Refuse an index that FAISS would refuse; takes milliseconds.

    Args:
        config: nothing is checked where its engine never takes an index.
        dimension: D of the embeddings.
        num_rows: of the gallery; None where it is not known yet, and then what depends on it, such
            as more inverted lists than rows, shows at mining.

    Raises:
        ImportError: FAISS is needed and not installed.
        ValueError: FAISS refuses the factory string, nprobe does not fit the index, or it has more
            inverted lists than there are rows to train them with.
    """
    if config.engine == "exact" or (config.engine == "auto" and config.faiss_index == "Flat"):
        return
    faiss = import_faiss()
    index = _empty_index(faiss, dimension, config)
    lists = faiss.try_extract_index_ivf(index)
    # With auto a small gallery is searched exactly, and no index is made.
    if config.engine == "faiss" and num_rows is not None and lists is not None:
        if lists.nlist > num_rows:
            raise ValueError(
                f"miner.faiss_index {config.faiss_index} has {lists.nlist} inverted lists, and "
                f"there are {num_rows} faces to train them with; give {num_rows} or fewer"
            )


def _empty_index(faiss: Any, dimension: int, config: MinerConfig) -> Any:
    name = config.faiss_index
    with _in_our_words(config, dimension):
        index = faiss.index_factory(dimension, name, faiss.METRIC_L2)
        lists = faiss.try_extract_index_ivf(index)
    if "IDMap" in name:
        raise ValueError(f"faiss_index = {name!r} numbers rows by itself; leave out IDMap")
    if lists is not None and lists.nlist < 1:
        raise ValueError(f"faiss_index = {name!r} has no inverted list; give it one or more")
    if config.nprobe is not None:
        if lists is None:
            raise ValueError(f"nprobe is set, but {name} has no inverted lists; leave it out")
        if config.nprobe > lists.nlist:
            raise ValueError(
                f"nprobe is {config.nprobe}, but {name} has {lists.nlist} inverted lists; give "
                f"{lists.nlist} or fewer"
            )
        lists.nprobe = config.nprobe
    return index


def _build_index(faiss: Any, x: Float32Array, config: MinerConfig) -> Any:
    index = _empty_index(faiss, x.shape[1], config)
    with _in_our_words(config, x.shape[1], len(x)):
        if not index.is_trained:
            index.train(x)
        index.add(x)
    return index


@contextlib.contextmanager
def _in_our_words(
    config: MinerConfig, dimension: int, num_rows: int | None = None
) -> Iterator[None]:
    """Turn what FAISS raises into a ValueError that names the setting."""
    try:
        yield
    except RuntimeError as error:
        # FAISS prefixes its sentences with the C++ function and source file.
        reason = str(error).splitlines()[0].split("Error: ")[-1]
        rows = "rows" if num_rows is None else f"{num_rows} rows"
        raise ValueError(
            f"FAISS refuses faiss_index = {config.faiss_index!r} for {rows} of {dimension} "
            f"values: {reason}"
        ) from error


def _looks_at_all(faiss: Any, index: Any) -> bool:
    """Say whether every row is compared with every anchor, at its uncompressed value."""
    index = faiss.downcast_index(index)
    # By exact type: subclasses keep compressed or refined copies, whose distances prove nothing.
    match type(index).__name__:
        case "IndexFlat" | "IndexFlatL2":
            return True
        case "IndexIVFFlat":
            # A coarse quantiser that skips lists itself may leave some out at any nprobe.
            is_flat = type(faiss.downcast_index(index.quantizer)).__name__.startswith("IndexFlat")
            return bool(is_flat and index.nprobe >= index.nlist)
    return False


def _subset(query: Query, chosen: Int64Array, position: Int64Array) -> Query:
    return query._replace(
        slot=position[query.slot[chosen]],
        row=query.row[chosen],
        low=query.low[chosen],
        high=query.high[chosen],
        state=query.state[chosen] if query.state.size else query.state,
    )


def _is_resolved(query: Query, best: Best, frontier: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (Q,) whether rows beyond the frontier (Q,) could not change the lists."""
    resolved = (query.high < frontier) | (query.high < query.low)
    if query.order == NEAREST and not query.counted:
        # Strictly: a row exactly as far might have the lower id.
        resolved |= (best.num == query.wanted) & (best.d2[:, -1] < frontier)
    return resolved | np.isinf(frontier)
