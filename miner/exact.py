"""The exact engine: every negative of every anchor is looked at, tile by tile.

A float32 matrix product gives approximate distances of a band of anchors to some thousand gallery
rows. One vectorised comparison per search then clears nearly all of a tile; the few elements that
could matter are decided by the defined d2. Only one tile and the lists of one band exist at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from miner.distance import float32_precision, product_error
from miner.kernels import Best, Float32Array, Int64Array, Query, Rows, scan_tile
from miner.search import Found, Workers, no_best

TILE_COLUMNS = 4096
"""Gallery rows per tile; with a band of 512 anchors a tile is 8 MiB. Never changes results."""


class ExactSearch:
    """Searches the whole gallery; every answer is complete.

    Args:
        rows: the gallery.
        workers: threads for the comparisons; the product uses torch's own.
        tile_columns: gallery rows per tile.
    """

    def __init__(self, rows: Rows, workers: Workers, *, tile_columns: int | None = None) -> None:
        self._rows = rows
        self._workers = workers
        self._columns = tile_columns or TILE_COLUMNS
        self._x = torch.from_numpy(rows.x)
        self._norms2 = torch.from_numpy(rows.norms2.astype(np.float32))
        self._error = product_error(rows.x.shape[1], float(rows.norms2.max()), float32_precision())

    def search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        """Answer queries about one band of anchors (see `miner.search.Search`)."""
        lists = [no_best(query) for query in queries]
        # Doubling is exact, so that it costs no error here and no pass over the tile later.
        doubled = -2 * self._x[torch.from_numpy(anchors)]
        buffer = torch.empty(len(anchors) * self._columns)
        for column in range(0, len(self._x), self._columns):
            part = self._x[column : column + self._columns]
            tile = buffer[: len(anchors) * len(part)].view(len(anchors), len(part))
            torch.mm(doubled, part.T, out=tile)
            tile += self._norms2[column : column + self._columns]
            for query, best in zip(queries, lists, strict=True):
                self._scan(query, best, tile.numpy(), column)
        return [
            Found(best=best, complete=np.ones(query.slot.size, np.bool_))
            for query, best in zip(queries, lists, strict=True)
        ]

    def _scan(self, query: Query, best: Best, tile: Float32Array, column: int) -> None:
        self._workers.each(
            query.slot.size,
            lambda begin, end: scan_tile(
                self._rows, query, best, tile, column, self._error, begin, end
            ),
        )
