"""How many negatives of each kind every pair has: all of them counted, exactly, in a pass apart.

Hard, semi-hard and easy partition the negatives of a pair. Only the hard and the semi-hard ones are
counted, those that a float32 product decides many at a time and the few at an edge by the defined
d2; the easy ones are the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from facequarry.datasets.runs.vocabulary import KINDS_BY_DISTANCE, names
from facequarry.miner.config import MinerConfig
from facequarry.miner.core.distance import band, lowest
from facequarry.miner.core.search import Workers
from facequarry.miner.engines.products import Product, float32_product, take_centre
from facequarry.miner.kernels.counts import count_within
from facequarry.miner.kernels.layout import Float32Array, Int64Array, Rows
from facequarry.miner.selection.pairs import Pairs, cut_anchors, pair_up
from facequarry.miner.selection.tables import concatenate

TILE_ROWS, TILE_COLUMNS = 64, 2048
"""Rows along the sides of a tile; never changes results."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Negatives by kind of T pairs, suspects left out."""

    anchor: Int64Array
    """(T,) gallery rows."""
    positive: Int64Array
    """(T,) gallery rows."""
    hard: Int64Array
    """(T,) negatives with d2_an <= d2_ap."""
    semi_hard: Int64Array
    """(T,) negatives in the band."""
    easy: Int64Array
    """(T,) the others."""

    def totals(self) -> dict[str, int]:
        """Return the sums over all pairs, by kind."""
        return {kind: int(counts.sum()) for kind, counts in self._by_kind().items()}

    def table(self, ids: Int64Array) -> pa.Table:
        """Return the counts by anchor and positive id, as `Mined.kinds` describes."""
        anchor, positive = ids[self.anchor], ids[self.positive]
        order = np.lexsort((positive, anchor))
        columns = {"anchor": anchor, "positive": positive} | self._by_kind()
        return pa.table({name: values[order] for name, values in columns.items()})

    def _by_kind(self) -> dict[str, Int64Array]:
        counts = (self.hard, self.semi_hard, self.easy)
        return dict(zip(names(KINDS_BY_DISTANCE), counts, strict=True))


def count_kinds(
    rows: Rows, anchors: Int64Array, config: MinerConfig, seed: int, workers: Workers
) -> Kinds:
    """Count the negatives of every pair of some anchors, as many at a time as `mine` searches for.

    Args:
        rows: the gallery.
        anchors: (A,) gallery rows, ascending.
        config: margin, duplicate_floor and what pairs are made of.
        seed: of the draw of positives.
        workers: threads.
    """
    product = float32_product(rows, take_centre(rows, workers), workers)
    parts = [
        _count_kinds(rows, product, pair_up(rows, chunk, config, seed, workers), config, workers)
        for chunk in cut_anchors(rows, anchors, config)
    ]
    return concatenate(Kinds, parts)


def _count_kinds(
    rows: Rows, product: Product, pairs: Pairs, config: MinerConfig, workers: Workers
) -> Kinds:
    anchors = pairs.anchors
    kept = ~pairs.is_suspect
    slot, positive, d2_ap = pairs.slot[kept], pairs.positive[kept], pairs.d2_ap[kept]
    floor = lowest(config.duplicate_floor)
    low, high = band(d2_ap, config.margin, config.duplicate_floor)
    under = np.nextafter(floor, np.float32(-np.inf))
    every = np.arange(anchors.size if config.duplicate_floor is not None else 0)
    # All intervals of an anchor are counted in one pass.
    counts = _count(
        rows,
        product,
        anchors,
        slot=np.concatenate([slot, slot, every]),
        low=np.concatenate([np.full_like(d2_ap, floor), low, np.zeros(every.size, np.float32)]),
        high=np.concatenate([d2_ap, high, np.full(every.size, under, np.float32)]),
        workers=workers,
    )
    hard, semi_hard, too_near = np.split(counts, [slot.size, 2 * slot.size])
    negatives = rows.x.shape[0] - (rows.last - rows.first)[anchors]
    negatives[every] -= too_near
    return Kinds(
        anchor=anchors[slot],
        positive=positive,
        hard=hard,
        semi_hard=semi_hard,
        easy=negatives[slot] - hard - semi_hard,
    )


def _count(
    rows: Rows,
    product: Product,
    anchors: Int64Array,
    *,
    slot: Int64Array,
    low: Float32Array,
    high: Float32Array,
    workers: Workers,
) -> Int64Array:
    """Return (T,) how many negatives of the anchor at each slot have d2 in [low, high]."""
    order = np.argsort(slot, kind="stable")
    low, high = low[order], high[order]
    total = np.zeros(slot.size, np.int64)
    begin = np.searchsorted(slot[order], np.arange(anchors.size + 1))
    every = np.arange(len(rows.x))

    def count(first: int, last: int) -> None:
        room = torch.empty(TILE_ROWS * TILE_COLUMNS, dtype=torch.float32)
        measures = np.empty(TILE_COLUMNS, np.int32)
        for start in range(first, last, TILE_ROWS):
            stop = min(start + TILE_ROWS, last)
            left = product.take(anchors[start:stop])
            for column in range(0, every.size, TILE_COLUMNS):
                columns = every[column : column + TILE_COLUMNS]
                count_within(
                    rows,
                    anchors,
                    product.multiply(left, product.take(columns), room),
                    product.scale,
                    product.shift,
                    product.norm,
                    float(product.norm[columns].max()),
                    column,
                    measures,
                    start,
                    begin,
                    low,
                    high,
                    total,
                )

    workers.each(anchors.size, count)
    counts = np.empty_like(total)
    counts[order] = total
    return counts
