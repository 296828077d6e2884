"""Tiles of products: what they say about d2, and the limits that searches put on them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miner.kernels.compiled import inlined, kernel
from miner.kernels.distance import round_down, round_up
from miner.kernels.lists import admitted
from miner.layout import Int64Array, Rows, Searches

_MOST = 2**31 - 1  # no product is as large


class Side(NamedTuple):
    """The gallery rows along one side of a tile of products."""

    row: Int64Array
    """(R,) gallery rows."""
    slot: Int64Array
    """(R,) their anchor slots, -1 where a row is no anchor; empty where the side asks nothing."""
    most_norm2: float
    """Largest |b|^2 among them, taken from the centre."""
    residual: float
    """Largest |b - its code|, 0 for float32 products."""


class Scale(NamedTuple):
    """What a product says about d2; `miner.products` makes it, `miner.distance` proves it.

    A product less the shifts of both its rows is about -d2 / unit. With a and b taken from the
    centre, that d2 is off by at most error + 2 ((|a| + residual_a) residual_b + residual_a |b|).
    """

    unit: float
    error: float
    norms2: NDArray[np.float64]
    """(N,) |a|^2 of each row, taken from the centre."""
    shift: NDArray[Any]
    """(N,) |a|^2 / unit, in the products' own type."""
    residual: NDArray[np.float64]
    """(N,) how far each row is from its code; empty for float32 products."""
    is_whole: bool
    """Products are integers."""


class Limits(NamedTuple):
    """Which shifted products could belong to an admitted negative; W searches a row."""

    low: NDArray[Any]
    """(W, R) smallest product, in the products' own type."""
    high: NDArray[Any]
    """(W, R) largest product; below `low` where nothing is admitted."""
    reach: NDArray[Any]
    """(R,) smallest of the row's `low`."""
    shift: NDArray[Any]
    """(R,) the shift of each row."""


@inlined
def bounds(searches: Searches, q: int, half: float, unit: float) -> tuple[float, float]:
    """Return the closed interval of products that could belong to an admitted negative."""
    least, most = admitted(searches, q)
    if least > most:
        return 1.0, 0.0
    return (-half - most) / unit, (half - least) / unit


@inlined
def half_width(row: int, other: Side, scale: Scale) -> float:
    """Return how far a distance to the other side that is taken from a product may be off."""
    if not scale.residual.size:
        return scale.error
    norm, residual = np.sqrt(scale.norms2[row]), scale.residual[row]
    other_norm = np.sqrt(other.most_norm2)
    return float(scale.error + 2 * ((norm + residual) * other.residual + residual * other_norm))


@inlined
def set_one(limits: Limits, w: int, r: int, low: float, high: float, is_whole: bool) -> None:
    """Write an interval, rounded outwards into the products' type."""
    if low > high:
        limits.low[w, r] = _MOST
        limits.high[w, r] = -_MOST
    elif is_whole:
        # No product leaves 31 bits: what is cut off lies beyond all of them.
        limits.low[w, r] = np.int64(min(max(np.ceil(low), -_MOST), _MOST))
        limits.high[w, r] = np.int64(min(max(np.floor(high), -_MOST), _MOST))
    else:
        limits.low[w, r] = round_down(low)
        limits.high[w, r] = round_up(high)


@kernel
def set_limits(
    rows: Rows,
    searches: Searches,
    side: Side,
    other: Side,
    scale: Scale,
    limits: Limits,
) -> int:
    """Fill the limits of the rows of one side; return the most searches of a row."""
    most = 0
    room = limits.low.shape[0]
    for r in range(side.row.size):
        limits.shift[r] = scale.shift[side.row[r]]
        w = 0
        if side.slot.size and side.slot[r] >= 0:
            row, slot = side.row[r], side.slot[r]
            half = half_width(row, other, scale)
            for g in range(searches.order.size):
                for q in range(searches.begin[g, slot], searches.begin[g, slot + 1]):
                    low, high = bounds(searches, q, half, scale.unit)
                    set_one(limits, w, r, low, high, scale.is_whole)
                    w += 1
        for k in range(w, room):
            limits.low[k, r] = _MOST
            limits.high[k, r] = -_MOST
        most = max(most, w)
        set_reach(limits, r)
    return most


@inlined
def set_reach(limits: Limits, r: int) -> None:
    """Note the smallest product that could matter to any search of a row."""
    reach = limits.low[0, r]
    for k in range(1, limits.low.shape[0]):
        reach = min(reach, limits.low[k, r])
    limits.reach[r] = reach


@kernel
def shift_row(values: NDArray[Any], own: Any, others: NDArray[Any]) -> None:
    """Turn the products of one row into about -d2 / unit, in place."""
    for c in range(values.size):
        values[c] -= own + others[c]
