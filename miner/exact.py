"""The exact engine: every negative of every anchor is looked at, tile by tile.

A float32 matrix product gives approximate distances of some anchors to some thousand gallery rows.
One vectorised comparison per search then clears nearly all of a tile; the few elements that could
matter are decided by the defined d2. Each thread has a tile and anchors of its own, so that a tile
is still in its cache when it is looked at; nothing larger than the tiles and the lists of one band
exists at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from miner.distance import float32_precision, product_error
from miner.kernels import scan_tile
from miner.layout import Best, Found, Int64Array, Query, Rows, no_best
from miner.search import Workers

TILE_COLUMNS = 2048
"""Gallery rows per tile; never changes results."""


class ExactSearch:
    """Searches the whole gallery; every answer is complete.

    Args:
        rows: the gallery.
        workers: threads; each multiplies and compares for its own share of a band.
    """

    def __init__(self, rows: Rows, workers: Workers) -> None:
        self._rows = rows
        self._workers = workers
        self._x = torch.from_numpy(rows.x)
        least, most = float(rows.norms2.min()), float(rows.norms2.max())
        self._norm2 = (least + most) / 2
        self._error = product_error(rows.x.shape[1], most, most - least, float32_precision())

    def search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        """Answer queries about one band of anchors (see `miner.search.Search`)."""
        lists = [no_best(query) for query in queries]
        self._workers.each(
            len(anchors), lambda begin, end: self._search_part(anchors, begin, end, queries, lists)
        )
        return [
            Found(best=best, complete=np.ones(query.slot.size, np.bool_))
            for query, best in zip(queries, lists, strict=True)
        ]

    def _search_part(
        self,
        anchors: Int64Array,
        begin: int,
        end: int,
        queries: Sequence[Query],
        lists: list[Best],
    ) -> None:
        """Answer the searches of the anchors at slots `begin:end`."""
        spans = [np.searchsorted(query.slot, (begin, end)).tolist() for query in queries]
        doubled = -2 * self._x[torch.from_numpy(anchors[begin:end])]
        buffer = torch.empty(len(doubled) * TILE_COLUMNS)
        for column in range(0, len(self._x), TILE_COLUMNS):
            part = self._x[column : column + TILE_COLUMNS]
            tile = buffer[: len(doubled) * len(part)].view(len(doubled), len(part))
            torch.mm(doubled, part.T, out=tile)
            for query, best, (first, last) in zip(queries, lists, spans, strict=True):
                scan_tile(
                    self._rows,
                    query,
                    best,
                    tile.numpy(),
                    begin,
                    column,
                    self._norm2,
                    self._error,
                    first,
                    last,
                )
