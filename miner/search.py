"""What the two engines have in common: queries go in, the best negatives come out.

`miner.exact` and `miner.approximate` differ in which rows they look at. What qualifies, what is
preferred and how ties break is in the query, so that everything after the search is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from miner.kernels import HASH, NEAREST, Best, Float32Array, Int64Array, Query, Rows, scan_hashes


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one `Query`."""

    best: Best
    """The negatives, best first."""

    complete: NDArray[np.bool_]
    """(Q,) true where nothing that was not looked at could change the answer."""


class Search(Protocol):
    """An engine over one gallery."""

    def search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        """Answer queries about one band of anchors.

        Args:
            anchors: (A,) int64 gallery rows; `Query.slot` counts in these.
            queries: all of them are answered in one pass over the gallery.
        """
        ...


class Workers:
    """The threads of one mining pass; use it as a context manager.

    Each thread multiplies matrices for itself: torch is told to add none of its own meanwhile.
    """

    def __init__(self, threads: int | None) -> None:
        self._torch_threads = torch.get_num_threads()
        self.threads = threads or self._torch_threads
        # The setting has a part that belongs to the process and a part that belongs to the thread.
        self._pool = ThreadPoolExecutor(
            self.threads,
            thread_name_prefix="miner",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )

    def each(self, count: int, work: Callable[[int, int], None]) -> None:
        """Call `work(begin, end)` on contiguous parts of `range(count)` and wait for all."""
        cuts = [count * part // self.threads for part in range(self.threads + 1)]
        parts = [(begin, end) for begin, end in zip(cuts, cuts[1:], strict=False) if begin < end]
        for future in [self._pool.submit(work, begin, end) for begin, end in parts]:
            future.result()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._torch_threads)


def make_query(
    slot: Int64Array,
    row: Int64Array,
    low: Float32Array | np.float32,
    high: Float32Array | np.float32,
    *,
    state: NDArray[np.uint64] | None = None,
    order: int = NEAREST,
    wanted: int = 1,
    distinct: bool = False,
    counted: bool = False,
) -> Query:
    """Return a `Query`; single limits are repeated, the rest is as described there."""
    return Query(
        slot=np.ascontiguousarray(slot, np.int64),
        row=np.ascontiguousarray(row, np.int64),
        low=np.array(np.broadcast_to(low, slot.shape), np.float32),
        high=np.array(np.broadcast_to(high, slot.shape), np.float32),
        state=np.zeros(slot.shape, np.uint64) if state is None else state,
        order=order,
        wanted=wanted,
        distinct=distinct,
        counted=counted,
    )


def no_best(query: Query) -> Best:
    """Return empty lists for every search of `query`."""
    shape = (query.slot.size, query.wanted)
    return Best(
        key=np.zeros(shape, np.uint64),
        row=np.full(shape, -1, np.int64),
        d2=np.zeros(shape, np.float32),
        num=np.zeros(shape[0], np.int64),
        total=np.zeros(shape[0], np.int64),
    )


def search_hashes(rows: Rows, query: Query, workers: Workers) -> Found:
    """Answer a HASH query with no upper limit: no distance is needed to find the smallest hash."""
    if query.order != HASH:
        raise ValueError("only HASH queries can do without distances")
    best = no_best(query)
    workers.each(query.slot.size, lambda begin, end: scan_hashes(rows, query, best, begin, end))
    return Found(best=best, complete=np.ones(query.slot.size, np.bool_))
