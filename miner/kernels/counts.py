"""How many rows of a tile lie in an interval of distances."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from facequarry.miner.kernels.compiled import kernel
from facequarry.miner.kernels.hashed_d2 import d2_of
from facequarry.miner.kernels.layout import Float32Array, Int64Array, Rows
from facequarry.miner.kernels.tiles import (
    Int32Array,
    Scale,
    measure,
    width_without_residuals,
    within_bits,
)


@kernel
def count_within(
    rows: Rows,
    anchors: Int64Array,
    tile: NDArray[Any],
    scale: Scale,
    shift: NDArray[Any],
    norm: NDArray[np.float64],
    most_norm: float,
    column: int,
    room: Int32Array,
    first_slot: int,
    begin: Int64Array,
    low: Float32Array,
    high: Float32Array,
    total: Int64Array,
) -> None:
    """Add to `total` (T,) how many of a tile's rows have a d2 in the closed [low, high].

    Args:
        rows: the gallery.
        anchors: (A,) gallery rows.
        tile: (R, C) float32 products of the anchors from `first_slot` on with the columns'.
        scale: what a product says about d2.
        shift: (N,) of all rows of the gallery; see `Side`, as for `norm`.
        norm: (N,) likewise.
        most_norm: the largest of the columns'.
        column: the first of C gallery rows that follow on each other; those of the anchor's
            identity are left out.
        room: for C measures.
        first_slot: slot of the tile's first row.
        begin: (A + 1,) the intervals of slot s are `begin[s]:begin[s + 1]`.
        low: (T,) smallest d2.
        high: (T,) largest d2; below `low` where nothing is counted.
        total: (T,) updated in place.
    """
    shifts = shift[column : column + tile.shape[1]]
    for r in range(tile.shape[0]):
        anchor = anchors[first_slot + r]
        measure(tile[r], shift[anchor], shifts, scale.grain, room)
        error = width_without_residuals(scale, norm[anchor], most_norm)
        own_begin = min(max(rows.first[anchor] - column, 0), tile.shape[1])
        own_end = min(max(rows.last[anchor] - column, 0), tile.shape[1])
        for q in range(begin[first_slot + r], begin[first_slot + r + 1]):
            if low[q] > high[q]:
                continue
            # Measures that may lie within, and among them those that certainly do.
            least = np.ceil((-error - high[q]) / scale.unit)
            most = np.floor((error - low[q]) / scale.unit)
            sure_least = np.ceil((error - high[q]) / scale.unit)
            sure_most = np.floor((-error - low[q]) / scale.unit)
            for part in range(2):
                start = own_end if part else 0
                stop = tile.shape[1] if part else own_begin
                values = room[start:stop]
                sure = _num_within(values, sure_least, sure_most)
                total[q] += sure
                if _num_within(values, least, most) == sure:
                    continue
                for c in range(values.size):
                    if least <= values[c] <= most and not sure_least <= values[c] <= sure_most:
                        d2 = d2_of(rows.x, anchor, column + start + c)
                        total[q] += low[q] <= d2 <= high[q]


@kernel
def _num_within(values: Int32Array, low: float, high: float) -> int:
    least, most = within_bits(low), within_bits(high)
    num = 0
    for c in range(values.size):
        num += (values[c] >= least) & (values[c] <= most)
    return num
