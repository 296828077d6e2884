"""The exact engine: every negative of every anchor is looked at, tile by tile.

A matrix product says approximately how far some hundred anchors are from some hundred gallery rows.
One vectorised comparison then clears nearly all of such a tile while it is still in its cache; the
few elements that could matter are decided by the defined d2. Where most rows of a gallery that is
not small are anchors, a tile serves the rows along both its sides, so that only half of all tiles
are multiplied.

Blocks of rows are searched against each other in rounds, as in a tournament: in one round no block
meets two others, so that threads write to lists of their own and need no locks. What a thread
multiplies with, int8 or float32, follows from how much it had to decide lately; as a product only
filters, that cannot show in the results.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from facequarry.miner.core.search import Workers
from facequarry.miner.engines.multiply import int8_pays
from facequarry.miner.engines.products import Product, float32_product, int8_product, take_centre
from facequarry.miner.engines.scratch import Count, Scratch
from facequarry.miner.kernels.layout import (
    Found,
    Int64Array,
    Query,
    Report,
    Rows,
    Searches,
    bests_of,
    open_searches,
)
from facequarry.miner.kernels.scan import Encounter, scan_tile
from facequarry.miner.kernels.tiles import Side, set_limits

TILE_ROWS, TILE_COLUMNS = 256, 1024
"""Rows along the sides of a tile, 1 MiB of products; never changes results."""

BLOCKS_PER_THREAD = 4
"""Blocks that the rows are cut into; a thread has two of them at a time."""

SYMMETRIC_FROM = 0.7
"""Share of the rows that must be anchors for one tile to serve both its sides.

Between 60 %, where serving one side was measured faster, and 75 %, where it was about even.
"""

ONE_SIDED_UP_TO = 2048
"""Rows up to which it never does: seeing whole rows of a tile saves an anchor more."""

MOST_DECIDED_SHARE = 0.03
"""Share of a tile's elements after whose decision float32 products are cheaper than int8 ones."""

INT8_FROM = 16_384
"""Rows from which rounding them to 8 bits is made up for; never changes results."""

CHUNK_ROWS = 4096
"""Rows that stay in the cache while the tiles beside them go by."""

_UNLIMITED = 2**62
_NO_ROWS = np.empty(0, np.int64)

Blocks = tuple[Int64Array, Int64Array]


class ExactSearch:
    """Searches the whole gallery; every answer is complete.

    Args:
        rows: the gallery.
        workers: threads; each multiplies and compares for itself.
        progress: told now and then how many (anchor, row) products were looked at so far.
    """

    def __init__(
        self, rows: Rows, workers: Workers, progress: Callable[[int], None] | None = None
    ) -> None:
        self._rows = rows
        self._workers = workers
        centre = take_centre(rows, workers)
        self._exact = float32_product(rows, centre, workers)
        self._coarse: Product | None = None
        is_large = len(rows.x) >= INT8_FROM
        if is_large and all(workers.all([functools.partial(int8_pays, rows.x.shape[1])])):
            self._coarse = int8_product(rows, centre, workers)
        self._progress = progress
        self._symmetric = False
        self._total = Count()
        # Idle ones. A job takes one and puts it back; either is one step, so no lock is needed.
        self._scratches: list[Scratch] = []

    def search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        """Answer queries about some anchors (see `miner.search.Search`)."""
        every = np.arange(len(self._rows.x))
        symmetric = is_symmetric(len(anchors), every.size)
        self._symmetric |= symmetric
        others = every if symmetric else None
        return self._search(anchors, queries, every, others, self._num_blocks(every.size))

    def search_between(
        self, anchors: Int64Array, queries: Sequence[Query], first: range, second: range
    ) -> list[Found]:
        """Answer queries of the anchors in two blocks of rows about the other block's rows.

        Args:
            anchors: (A,) gallery rows in either block.
            queries: as for `search`.
            first: contiguous rows of the gallery.
            second: others, none of them in `first`; or the same as `first`, whose anchors are then
                searched against all of it.

        Returns:
            What was found there; complete as far as these rows go.
        """
        left, right = np.arange(first.start, first.stop), np.arange(second.start, second.stop)
        self._symmetric = True
        others = left if first != second else right
        # What is cut already is not cut finer for one thread, which waits for nobody.
        num_blocks = 2 if self._workers.threads == 1 else self._num_blocks(right.size)
        return self._search(anchors, queries, right, others, num_blocks)

    def report(self) -> Report:
        """Say what the searches took so far."""
        looked_at = self._total.looked_at
        return Report(
            engine="exact",
            symmetric=self._symmetric,
            undecided_share=self._total.decided / looked_at if looked_at else None,
        )

    def _search(
        self,
        anchors: Int64Array,
        queries: Sequence[Query],
        gallery: Int64Array,
        others: Int64Array | None,
        num_blocks: int,
    ) -> list[Found]:
        """Search `gallery` for the anchors, or let it and `others` search each other."""
        anchors = np.ascontiguousarray(anchors)  # a view with steps is another type to a kernel
        searches = open_searches(queries, len(anchors))
        slot = np.full(len(self._rows.x), -1, np.int64)
        slot[anchors] = np.arange(len(anchors))
        scan = _Scan(self._rows, searches, slot, self._exact, self._coarse, self._scratches)
        if others is None:
            # Anchors may be any rows in any order; a thread takes as many at a time.
            parts = _cut(anchors, max(1, min(CHUNK_ROWS, len(anchors) // self._workers.threads)))
            self._run([functools.partial(scan.ask, part, gallery) for part in parts])
        else:
            for pairs in rounds(others, gallery, num_blocks):
                self._run([functools.partial(scan.meet, *pair) for pair in pairs])
        return [
            Found(best=best, complete=np.ones(query.slot.size, np.bool_))
            for query, best in zip(queries, bests_of(queries, searches), strict=True)
        ]

    def _num_blocks(self, num_rows: int) -> int:
        """Return into how many blocks to cut rows: threads end together, and progress is told."""
        # Blocks much smaller than a chunk cost more than they save.
        most = max(1, min(BLOCKS_PER_THREAD, num_rows // CHUNK_ROWS))
        return 2 * most * self._workers.threads

    def _run(self, jobs: Sequence[Callable[[], Count]]) -> None:
        """Run jobs on the threads, adding up what they did."""
        for count in self._workers.all(jobs):
            self._total.add(count.looked_at, count.decided)
            if self._progress is not None:
                self._progress(self._total.looked_at)


def is_symmetric(num_anchors: int, num_rows: int) -> bool:
    """Say whether tiles serve both their sides when anchors of a whole gallery are searched for."""
    return num_rows > ONE_SIDED_UP_TO and num_anchors > SYMMETRIC_FROM * num_rows


def rounds(left: Int64Array, right: Int64Array, num_blocks: int) -> Iterator[list[Blocks]]:
    """Pair up blocks of rows so that each meets each, and none meets two in one round.

    Args:
        left: (R,) rows.
        right: (C,) rows, none of them among `left`; or `left` itself.
        num_blocks: blocks to cut either into, even.

    Returns:
        Rounds of pairs. Blocks of one and the same array meet once, and each meets itself.
    """
    mine = np.array_split(left, num_blocks)
    if left is not right:
        theirs = np.array_split(right, num_blocks)
        for shift in range(num_blocks):
            yield [(mine[i], theirs[(i + shift) % num_blocks]) for i in range(num_blocks)]
        return
    yield [(block, block) for block in mine]
    # The circle method: one stays, the others go round.
    circle = list(range(1, num_blocks))
    for shift in range(num_blocks - 1):
        turned = [0, *circle[shift:], *circle[:shift]]
        half = num_blocks // 2
        facing = zip(turned[:half], reversed(turned[half:]), strict=True)
        yield [(mine[i], mine[j]) for i, j in facing]


class _Scan:
    """One search as the threads see it; what it writes to is each thread's own."""

    def __init__(
        self,
        rows: Rows,
        searches: Searches,
        slot: Int64Array,
        exact: Product,
        coarse: Product | None,
        scratches: list[Scratch],
    ) -> None:
        self._rows = rows
        self._searches = searches
        self._slot = slot
        self._exact = exact
        self._coarse = coarse
        self._scratches = scratches
        num_searches = np.diff(searches.begin, axis=1).sum(axis=0)
        self._most_searches = int(num_searches.max(initial=1))

    def ask(self, anchors: Int64Array, gallery: Int64Array) -> Count:
        """Search all of `gallery` for the anchors."""
        with self._scratch() as scratch:
            for left in _cut(anchors, CHUNK_ROWS):
                self._strip(left, gallery, scratch, both=False)
            return scratch.end()

    def meet(self, left: Int64Array, right: Int64Array) -> Count:
        """Let two blocks of rows search each other, or one block itself."""
        with self._scratch() as scratch:
            if left is not right:
                for chunk in _cut(left, CHUNK_ROWS):
                    self._strip(chunk, right, scratch, both=True)
                return scratch.end()
            # What meets itself is multiplied twice, so it is cut finer.
            for number, chunk in enumerate(_cut(left, TILE_COLUMNS), start=1):
                self._strip(chunk, chunk, scratch, both=False)
                self._strip(chunk, left[number * TILE_COLUMNS :], scratch, both=True)
            return scratch.end()

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Scratch]:
        """Lend a job what an earlier one has left: its memory, and what it learned."""
        try:
            scratch = self._scratches.pop()
        except IndexError:  # all are in use
            scratch = Scratch(TILE_ROWS, TILE_COLUMNS, self._most_searches)
        scratch.fit(self._most_searches)
        yield scratch
        # Not after an error: what it counted would be counted again.
        self._scratches.append(scratch)

    def _strip(self, left: Int64Array, right: Int64Array, scratch: Scratch, *, both: bool) -> None:
        """Go through the tiles of some rows with all of `right`."""
        taken: dict[torch.dtype, _Operand] = {}
        for columns in _cut(right, TILE_COLUMNS):
            product = self._exact if self._coarse is None or scratch.is_costly() else self._coarse
            stopped = 0
            while stopped < left.size:
                if product.dtype not in taken:
                    taken[product.dtype] = self._take(product, left)
                down, across = taken[product.dtype], self._take(product, columns)
                if not both:
                    across = across.unasking()
                stopped = self._column(product, down, across, stopped, scratch)
                if stopped < left.size:
                    scratch.give_up()
                    product = self._exact
                elif product is self._coarse:
                    scratch.succeed()

    def _take(self, product: Product, rows: Int64Array) -> _Operand:
        norm = product.norm[rows]
        residual = np.zeros(rows.size) if product.residual is None else product.residual[rows]
        side = Side(
            row=rows,
            slot=self._slot[rows],
            first=self._rows.first[rows],
            last=self._rows.last[rows],
            shift=product.shift[rows],
            norm=norm,
            residual=residual,
            most_norm=float(norm.max()),
            most_residual=float(residual.max()),
        )
        return _Operand(side, product.take(rows))

    def _column(
        self, product: Product, left: _Operand, right: _Operand, begin: int, scratch: Scratch
    ) -> int:
        """Go down a column of tiles from row `begin`; return the row that it stopped before."""
        room = scratch.room
        width = right.side.row.size
        # What is known of all of the left side holds for each tile of it.
        num_right = set_limits(self._searches, right.side, left.side, product.scale, room.right)
        most = int(MOST_DECIDED_SHARE * TILE_ROWS * width)
        for start in range(begin, left.side.row.size, TILE_ROWS):
            part = left.part(start, start + TILE_ROWS)
            met = Encounter(
                rows=self._rows,
                searches=self._searches,
                scale=product.scale,
                left=part.side,
                right=right.side,
                left_limits=room.left,
                right_limits=room.right,
                values=room.values,
                known=room.known,
            )
            most_decided = most if product is self._coarse else _UNLIMITED
            tile = product.multiply(part.rows, right.rows, room.tile.view(product.dtype))
            stopped, decided = scan_tile(met, tile, num_right, most_decided)
            del tile  # some products bring their own memory: there is room for one
            scratch.count.add(stopped * width * (2 if right.side.slot.size else 1), decided)
            if stopped < part.side.row.size:
                return start + stopped
        return left.side.row.size


@dataclass(frozen=True, slots=True)
class _Operand:
    """One side of a product."""

    side: Side
    rows: torch.Tensor
    """(R, D) what is multiplied."""

    def part(self, begin: int, end: int) -> _Operand:
        """Return some of its rows; what is largest of all holds for them too."""
        side, some = self.side, slice(begin, end)
        part = side._replace(
            row=side.row[some],
            slot=side.slot[some],
            first=side.first[some],
            last=side.last[some],
            shift=side.shift[some],
            norm=side.norm[some],
            residual=side.residual[some],
        )
        return _Operand(part, self.rows[some])

    def unasking(self) -> _Operand:
        """Return it as a side that only answers."""
        return _Operand(self.side._replace(slot=_NO_ROWS), self.rows)


def _cut(rows: Int64Array, size: int) -> Iterator[Int64Array]:
    for start in range(0, rows.size, size):
        yield rows[start : start + size]
