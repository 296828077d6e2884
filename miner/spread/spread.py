"""One search shared out: how it is cut into tasks, and how their answers become one again.

    rows ─► blocks of whole identities ─► tasks: pairs of blocks ─► miners ─► merged best lists

The task of blocks I and J is every search whose anchor lies in I among the rows of J, and every
search whose anchor lies in J among the rows of I: one product of two rows serves both. Each search
so meets each block exactly once, and merging best lists is exact: what comes out is what one engine
over all rows would find, to the byte, however the rows are cut and whoever answers when.

Plain Python: who answers is `actors.pool`'s business, what answers is `spread.task_miner`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from facequarry.miner.core.pace import Pace
from facequarry.miner.kernels.layout import (
    FARTHEST,
    NEAREST,
    Best,
    Float32Array,
    Found,
    Int64Array,
    Query,
    Report,
    Rows,
    Searches,
    bests_of,
    open_searches,
    take_searches,
)
from facequarry.miner.kernels.lists import merge_lists

Int32Array = NDArray[np.int32]

LEAST_BLOCK_ROWS = 2048
"""Smaller blocks would cost more in asking than in answering."""

_NUM_SIZES = 4
"""Sizes of tasks told apart, few: identities make blocks, and so tasks, differ a little anyway."""

_TASKS_PER_MINER = 12  # the last one to end is late by half a task at most: 4 %


class Span(NamedTuple):
    """Gallery rows `begin:end`."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Task:
    """A pair of blocks, `left <= right`."""

    left: int
    right: int
    comparisons: int
    """Anchors times rows, over both directions."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """Its one block, or its two."""
        return (self.left,) if self.left == self.right else (self.left, self.right)

    def __str__(self) -> str:
        return f"blocks {self.left} and {self.right} of the gallery"


@dataclass(frozen=True, slots=True)
class Part:
    """The searches whose anchors lie in one block."""

    anchors: Int64Array
    """(A,) gallery rows, in the caller's order."""
    queries: tuple[Query, ...]
    """The caller's queries; slots count in `anchors`."""


class BestLists(NamedTuple):
    """The best lists of one part's query, without the empty ones: what travels back."""

    search: Int32Array
    """(H,) positions in the query, ascending."""
    num: Int32Array
    """(H,) entries of each list, 1 or more."""
    total: Int64Array
    """(H,) as in `Best`."""
    row: Int32Array
    """(E,) gallery rows, list after list."""
    d2: Float32Array
    """(E,) distances to the anchor."""


Limits = tuple[tuple[Float32Array | None, ...], ...]
"""By block of a task and by query: (Q,) the limit that the lists so far leave a search (see
`limit_of`); None: they leave all."""

Answer = tuple[tuple[BestLists, ...], ...]
"""By block of a task and by query: what its searches found in the other block."""


class Miners(Protocol):
    """Those who answer tasks."""

    def answers(
        self, tasks: Sequence[Task], parts: Sequence[Part], limits: Callable[[Task], Limits]
    ) -> Iterator[tuple[Task, Answer]]:
        """Yield each task once with its answer, in any order.

        Args:
            tasks: given out in this order.
            parts: by block.
            limits: to be asked when a task is given out; the later, the tighter.
        """
        ...


class SpreadSearch:
    """Searches by sharing out; every answer is complete, and what `ExactSearch` would answer.

    Args:
        rows: the gallery.
        spans: its blocks, as `cut_blocks` returns them.
        miners: those who answer.
        clock: seconds since any moment.
    """

    def __init__(
        self,
        rows: Rows,
        spans: Sequence[Span],
        miners: Miners,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rows = rows
        self._spans = spans
        self._miners = miners
        self._clock = clock

    def search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        """Answer queries about these anchors (see `miner.search.Search`)."""
        searches = open_searches(queries, len(anchors))
        lists = bests_of(queries, searches)
        parts, places = deal_out(self._spans, anchors, queries)
        tasks = plan_tasks(self._spans, [part.anchors.size for part in parts])

        def limits(task: Task) -> Limits:
            return tuple(
                tuple(
                    limit_of(query, best, which)
                    for query, best, which in zip(queries, lists, places[block], strict=True)
                )
                for block in task.blocks
            )

        total = sum(task.comparisons for task in tasks)
        pace = Pace("search", "comparisons", total, self._clock)
        for task, answer in self._miners.answers(tasks, parts, limits):
            for block, found in zip(task.blocks, answer, strict=True):
                for sort, (which, part) in enumerate(zip(places[block], found, strict=True)):
                    merge(self._rows, searches, sort, which, part)
            pace.add(task.comparisons)
        return [
            Found(best=best, complete=np.ones(query.slot.size, np.bool_))
            for query, best in zip(queries, lists, strict=True)
        ]

    def report(self) -> Report:
        """Say what it is; what the miners had to decide stays with them."""
        return Report(engine="exact", symmetric=True)


def choose_num_blocks(num_rows: int, num_miners: int) -> int:
    """Return into how many blocks to cut, so that miners end at about the same time."""
    wanted = math.ceil(math.sqrt(2 * _TASKS_PER_MINER * num_miners))
    return max(1, min(wanted, num_rows // LEAST_BLOCK_ROWS))


def cut_blocks(first: Int64Array, num_blocks: int) -> list[Span]:
    """Cut the gallery between identities into blocks of about the same size.

    Args:
        first: (N,) as in `Rows`.
        num_blocks: at most; there are fewer where single identities are larger than a block.
    """
    points = np.arange(num_blocks) * first.size // num_blocks
    edges = [*np.unique(first[points]).tolist(), first.size]
    return [Span(begin, end) for begin, end in zip(edges, edges[1:], strict=False)]


def deal_out(
    spans: Sequence[Span], anchors: Int64Array, queries: Sequence[Query]
) -> tuple[list[Part], list[tuple[Int64Array, ...]]]:
    """Return each block's part, and by block and query which of the caller's searches it holds."""
    begins = np.array([span.begin for span in spans])
    block_of_anchor = np.searchsorted(begins, anchors, side="right") - 1
    place_in_part = np.empty(anchors.size, np.int64)
    in_block = [np.flatnonzero(block_of_anchor == block) for block in range(len(spans))]
    for chosen in in_block:
        place_in_part[chosen] = np.arange(chosen.size)
    block_of_search = [block_of_anchor[query.slot] for query in queries]
    places = [
        tuple(np.flatnonzero(of_search == block) for of_search in block_of_search)
        for block in range(len(spans))
    ]
    parts = [
        Part(
            anchors=anchors[chosen],
            queries=tuple(
                take_searches(query, which, place_in_part)
                for query, which in zip(queries, places[block], strict=True)
            ),
        )
        for block, chosen in enumerate(in_block)
    ]
    return parts, places


def plan_tasks(spans: Sequence[Span], num_anchors: Sequence[int]) -> list[Task]:
    """Return the pairs of blocks that have anything to search, larger ones first.

    Those of one block against itself come near the end: half the work where all rows are anchors,
    they let the miners end together. Tasks of about the same size go by left + right modulo the
    number of blocks: for one remainder each block has one partner, so that tasks that follow each
    other mostly share none. What is learned of a block in one task would come too late for another
    one already given out.
    """
    sizes = [span.end - span.begin for span in spans]
    tasks = []
    for left in range(len(spans)):
        for right in range(left, len(spans)):
            comparisons = num_anchors[left] * sizes[right]
            if left != right:
                comparisons += num_anchors[right] * sizes[left]
            if comparisons:
                tasks.append(Task(left, right, comparisons))
    most = max((task.comparisons for task in tasks), default=0)
    return sorted(
        tasks,
        key=lambda task: (
            -round(_NUM_SIZES * task.comparisons / most),
            (task.left + task.right) % len(spans),
        ),
    )


def limit_of(query: Query, best: Best, which: Int64Array) -> Float32Array | None:
    """Return (W,) the highest d2 (FARTHEST: the lowest) that could still enter the lists of some.

    A list that is full takes nothing beyond its last entry. That entry's own d2 stays allowed: of
    two at one distance the lower id is preferred.

    Args:
        query: the searches.
        best: their lists so far.
        which: (W,) positions in the query.
    """
    if query.counted or query.order not in (NEAREST, FARTHEST):
        return None
    is_full = best.num[which] == query.wanted
    if not is_full.any():
        return None
    last = best.d2[which, query.wanted - 1]
    if query.order == NEAREST:
        return np.where(is_full, last, query.high[which])
    return np.where(is_full, last, query.low[which])


def limited(query: Query, limit: Float32Array | None) -> Query:
    """Return the query within what `limit_of` said."""
    if limit is None:
        return query
    return query._replace(high=limit) if query.order == NEAREST else query._replace(low=limit)


def pack_lists(best: Best, first: int, last: int) -> BestLists:
    """Return the lists of searches `first:last` as they travel."""
    num = best.num[first:last]
    search = np.flatnonzero(num)
    num = num[search]
    is_kept = np.arange(best.d2.shape[1]) < num[:, None]
    row = best.row[first:last][search][is_kept]
    total = best.total[first:last][search] if best.total.size else np.zeros(search.size, np.int64)
    return BestLists(
        search=search.astype(np.int32),
        num=num.astype(np.int32),
        total=total,
        row=row.astype(np.int32),
        d2=best.d2[first:last][search][is_kept],
    )


def merge(rows: Rows, searches: Searches, sort: int, which: Int64Array, found: BestLists) -> None:
    """Take what a task found into the caller's lists.

    Args:
        rows: the gallery.
        searches: the caller's queries with their lists, updated in place.
        sort: which query.
        which: (W,) the part's searches, as positions in the query.
        found: what they found.
    """
    asked = searches.first[sort] + which[found.search]
    merge_lists(rows, searches, asked, found.num, found.row, found.d2)
    if searches.counted[sort]:
        searches.total[asked] += found.total
