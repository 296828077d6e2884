"""What engines have in common: queries go in, the best negatives come out.

`engines.exact`, `engines.routing`, `engines.approximate` and `gpu.gpu_engine` differ in which rows
they look at, and how. What qualifies, what is preferred and how ties break is in the query, so that
everything after the search is shared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np
import torch

from facequarry.datasets.disk.errors import BadInput
from facequarry.miner.kernels.layout import (
    HASH,
    Found,
    Int64Array,
    Query,
    Report,
    Rows,
    bests_of,
    open_searches,
)
from facequarry.miner.kernels.lists import scan_hashes

T = TypeVar("T")


class Search(Protocol):
    """An engine over one gallery."""

    def search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        """Answer queries about one band of anchors.

        Args:
            anchors: (A,) int64 gallery rows; `Query.slot` counts in these.
            queries: all of them are answered in one pass over the gallery.
        """
        ...

    def report(self) -> Report:
        """Say what it is and what its searches took so far."""
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

    def all(self, jobs: Sequence[Callable[[], T]]) -> Iterator[T]:
        """Run jobs on the threads; give what they return, in order, and wait for all."""
        futures = [self._pool.submit(job) for job in jobs]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:  # after an error or an interrupt nothing new is begun
                future.cancel()

    def each(self, count: int, work: Callable[[int, int], T]) -> list[T]:
        """Call `work(begin, end)` on contiguous parts of `range(count)` and wait for all."""
        cuts = [count * part // self.threads for part in range(self.threads + 1)]
        parts = [(begin, end) for begin, end in zip(cuts, cuts[1:], strict=False) if begin < end]
        return list(self.all([functools.partial(work, begin, end) for begin, end in parts]))

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


def search_hashes(rows: Rows, anchors: Int64Array, query: Query, workers: Workers) -> Found:
    """Answer a HASH query with no upper limit: no distance is needed to find the smallest hash."""
    if query.order != HASH:
        raise BadInput("only HASH queries can do without distances")
    searches = open_searches([query], anchors.size)
    workers.each(anchors.size, functools.partial(scan_hashes, rows, searches, anchors))
    return Found(bests_of([query], searches)[0], np.ones(query.slot.size, np.bool_))
