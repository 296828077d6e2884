"""For each identity, the identities whose faces are nearest to its own on average.

The mean d2 between the faces of two identities of unit rows is 2 - 2 m.n, with m and n their mean
rows, so that the largest products of mean rows name the look-alikes. Means are rounded to 8 bits
and multiplied as integers: sums of integers are exact, so that the answer is the same however the
work is cut up. With many identities the means are sorted into cells around pivots (a spherical
k-means, of integers too), and an identity is compared with the cells nearest to it alone: about
sqrt(P) products each in place of P.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from facequarry.miner.core.search import Workers
from facequarry.miner.engines.multiply import LARGEST_CODE, whole_products
from facequarry.miner.kernels.layout import Float32Array, Int64Array, Rows
from facequarry.miner.kernels.routes import keep_largest, mean_rows

PROBES = 32
"""Cells that an identity is compared with, where there are as many."""

CELLS_FROM = 4096
"""Identities from which they are sorted into cells."""

_CELLS_PER_ROOT = 1
_SAMPLE_PER_CELL = 24
_ROUNDS = 5
_TILE_ROWS, _TILE_COLUMNS = 512, 1024
_NONE = np.iinfo(np.int32).min

Int32Array = NDArray[np.int32]
Codes = NDArray[np.int8]


class LookAlikes:
    """Compares the identities of one gallery.

    Args:
        rows: the gallery; P identities.
        count: R, how many look-alikes to find per identity, at most P - 1.
        workers: threads; their number cannot show in what is found.
    """

    def __init__(self, rows: Rows, count: int, workers: Workers) -> None:
        self._workers = workers
        self._count = count
        is_first = rows.first == np.arange(rows.first.size)
        self.bounds: Int64Array = np.append(np.flatnonzero(is_first), rows.first.size)
        """(P + 1,) the rows of identity p are `bounds[p]:bounds[p + 1]`."""
        num = self.bounds.size - 1
        means = np.empty((num, rows.x.shape[1]), np.float32)
        workers.each(num, lambda begin, end: mean_rows(rows.x, self.bounds, means, begin, end))
        codes = _round(means)
        self._pivots = self._train(codes)
        self.cell: Int32Array = self._nearest(codes, self._pivots, 1)[:, 0]
        """(P,) the cell of each identity."""
        order = np.argsort(self.cell, kind="stable")
        self._listed: Int32Array = order.astype(np.int32)
        self._codes = torch.from_numpy(codes)
        self._listed_codes = torch.from_numpy(codes[order])
        self._ends: Int64Array = np.searchsorted(
            self.cell[order], np.arange(len(self._pivots) + 1)
        ).astype(np.int64)

    def find(self, identities: Int64Array) -> Int32Array:
        """Return (I, R) the look-alikes of some identities, nearest first, -1 where none is left.

        Args:
            identities: (I,) numbers below P.
        """
        # Neighbours in this order are compared with the same cells.
        order = np.argsort(self.cell[identities], kind="stable")
        asked = identities[order].astype(np.int32)
        probes = len(self._pivots)
        if self._count < self.bounds.size - 2:
            probes = min(probes, max(PROBES, self._count))
        cells = self._nearest(self._codes.numpy()[asked], self._pivots, probes)
        values = np.full((asked.size, self._count), _NONE, np.int32)
        kept = np.full((asked.size, self._count), -1, np.int32)
        self._workers.each(
            asked.size, lambda begin, end: self._compare(asked, cells, values, kept, begin, end)
        )
        found = np.empty_like(kept)
        found[order] = kept
        return found

    def _compare(
        self,
        asked: Int32Array,
        cells: Int32Array,
        values: Int32Array,
        kept: Int32Array,
        begin: int,
        end: int,
    ) -> None:
        """Take the cells one after the other, each with all of `asked[begin:end]` that probe it."""
        flat = cells[begin:end].astype(np.uint16).ravel()  # sorted by radix, unlike wider ones
        order = np.argsort(flat, kind="stable")
        ends = np.searchsorted(flat[order], np.arange(len(self._pivots) + 1))
        places = begin + order // cells.shape[1]
        room = torch.empty(_TILE_ROWS * _TILE_COLUMNS, dtype=torch.int32)
        for cell in range(len(self._pivots)):
            for start in range(ends[cell], ends[cell + 1], _TILE_ROWS):
                here = places[start : min(start + _TILE_ROWS, ends[cell + 1])]
                left = self._codes[torch.from_numpy(asked[here])]
                for column in range(self._ends[cell], self._ends[cell + 1], _TILE_COLUMNS):
                    columns = slice(column, min(column + _TILE_COLUMNS, self._ends[cell + 1]))
                    keep_largest(
                        whole_products(left, self._listed_codes[columns], room),
                        self._listed[columns],
                        asked[here],
                        here,
                        values,
                        kept,
                    )

    def _train(self, codes: Codes) -> Codes:
        """Return (G, D) pivots: directions around which the means lie."""
        num = len(codes)
        if num < CELLS_FROM:
            return codes[:1]
        num_cells = int(_CELLS_PER_ROOT * num**0.5)
        sample = np.random.default_rng(num).permutation(num)[: _SAMPLE_PER_CELL * num_cells]
        chosen = codes[sample]
        pivots = _round(_unit(chosen[:num_cells].astype(np.float64)))
        for _ in range(_ROUNDS):
            cell = self._nearest(chosen, pivots, 1)[:, 0]
            order = np.argsort(cell, kind="stable")
            used, first = np.unique(cell[order], return_index=True)
            sums = np.add.reduceat(chosen[order].astype(np.int64), first, axis=0)
            directions = pivots.astype(np.float64)
            directions[used] = sums
            pivots = _round(_unit(directions))
        return pivots

    def _nearest(self, codes: Codes, pivots: Codes, count: int) -> Int32Array:
        """Return (I, count) the pivots nearest to each row of codes, nearest first."""
        values = np.full((len(codes), count), _NONE, np.int32)
        kept = np.full((len(codes), count), -1, np.int32)
        names = np.arange(len(pivots), dtype=np.int32)
        own = np.full(_TILE_ROWS, -1, np.int32)
        left, right = torch.from_numpy(codes), torch.from_numpy(pivots)

        def compare(begin: int, end: int) -> None:
            room = torch.empty(_TILE_ROWS * _TILE_COLUMNS, dtype=torch.int32)
            for start in range(begin, end, _TILE_ROWS):
                places = np.arange(start, min(start + _TILE_ROWS, end))
                for column in range(0, len(pivots), _TILE_COLUMNS):
                    columns = slice(column, column + _TILE_COLUMNS)
                    scores = whole_products(left[start : start + places.size], right[columns], room)
                    keep_largest(scores, names[columns], own, places, values, kept)

        self._workers.each(len(codes), compare)
        return kept


def _round(x: Float32Array | NDArray[np.float64]) -> Codes:
    largest = max(float(x.max()), -float(x.min()), 1e-30)
    codes: Codes = np.rint(x * (LARGEST_CODE / largest)).astype(np.int8)
    return codes


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x))
    scaled: NDArray[np.float64] = x / np.maximum(lengths, 1)[:, None]
    return scaled
