"""Tiles of products: what they say about d2, and the limits that searches put on that."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facequarry.miner.kernels.compiled import inlined, kernel
from facequarry.miner.kernels.layout import Int64Array, Searches
from facequarry.miner.kernels.lists import admitted

Int32Array = NDArray[np.int32]

MOST = 2**31 - 1
"""No measure is as large."""

HIDDEN = -MOST - 1
"""Below every limit: no search admits it."""


class Side(NamedTuple):
    """The gallery rows along one side of a tile of products, with what is asked of each.

    Gathered once for many tiles: the rows may lie anywhere, and fetched from there for every tile
    they would miss the cache.
    """

    row: Int64Array
    """(R,) gallery rows."""
    slot: Int64Array
    """(R,) their anchor slots, -1 where a row is no anchor; empty where the side asks nothing."""
    first: Int64Array
    """(R,) first row of each row's identity."""
    last: Int64Array
    """(R,) one past the last of them."""
    shift: NDArray[Any]
    """(R,) half of |a|^2 as the products have it, in their own type."""
    norm: NDArray[np.float64]
    """(R,) |a|, taken from the centre."""
    residual: NDArray[np.float64]
    """(R,) how far each row is from what is multiplied; 0 for float32 products."""
    most_norm: float
    """The largest `norm`."""
    most_residual: float
    """The largest `residual`."""


class Scale(NamedTuple):
    """What a product says about d2; `engines.products` makes it, `core.distance` proves it.

    A product less the shifts of both its rows, times the grain and cut to a whole number, is the
    *measure* of the two: about -d2 / unit. Whatever multiplies, it is an int32 of 31 bits. With a
    and b taken from the centre, that d2 is off by at most
    error + share (|a| + |b|)^2 + 2 ((|a| + residual_a) residual_b + residual_a |b|).
    """

    unit: float
    """What one measure stands for, squared L2."""
    grain: Any
    """In the products' own type; 1 where they are whole."""
    error: float
    """Squared L2, the same for any two rows."""
    share: float
    """Of (|a| + |b|)^2."""


class Limits(NamedTuple):
    """Which measures could belong to an admitted negative; W searches a row."""

    low: Int32Array
    """(W, R) smallest."""
    high: Int32Array
    """(W, R) largest; below `low` where nothing is admitted."""
    reach: Int32Array
    """(R,) smallest of the row's `low`."""


@inlined
def bounds(searches: Searches, q: int, half: float, unit: float) -> tuple[float, float]:
    """Return the closed interval of measures that could belong to an admitted negative."""
    least, most = admitted(searches, q)
    if least > most:
        return 1.0, 0.0
    return lowest_measure(half, most, unit), (half - least) / unit


@inlined
def lowest_measure(half: float, most: float, unit: float) -> float:
    """Return the smallest measure that a distance of at most `most` can have."""
    return (-half - most) / unit


@inlined
def half_width(side: Side, r: int, other: Side, scale: Scale) -> float:
    """Return how far a distance to the other side that is taken from a measure may be off."""
    norm, residual = side.norm[r], side.residual[r]
    crossed = (norm + residual) * other.most_residual + residual * other.most_norm
    return float(scale.error + scale.share * (norm + other.most_norm) ** 2 + 2 * crossed)


@inlined
def within_bits(limit: float) -> np.int32:
    """Return a limit of measures as one of them: what is cut off lies beyond all."""
    return np.int32(min(max(limit, -MOST), MOST))


@inlined
def set_one(limits: Limits, w: int, r: int, low: float, high: float) -> None:
    """Write an interval, rounded inwards: measures are whole."""
    if low > high:
        limits.low[w, r] = MOST
        limits.high[w, r] = -MOST
    else:
        limits.low[w, r] = within_bits(np.ceil(low))
        limits.high[w, r] = within_bits(np.floor(high))


@kernel
def set_limits(
    searches: Searches,
    side: Side,
    other: Side,
    scale: Scale,
    limits: Limits,
) -> int:
    """Fill the limits of the rows of one side; return the most searches of a row.

    Of a side that asks nothing only `reach` is ever read, and only that is filled.
    """
    most = 0
    if not side.slot.size:
        limits.reach[: side.row.size] = MOST
        return most
    room = limits.low.shape[0]
    for r in range(side.row.size):
        w = 0
        if side.slot[r] >= 0:
            slot = side.slot[r]
            half = half_width(side, r, other, scale)
            for g in range(searches.order.size):
                for q in range(searches.begin[g, slot], searches.begin[g, slot + 1]):
                    low, high = bounds(searches, q, half, scale.unit)
                    set_one(limits, w, r, low, high)
                    w += 1
        for k in range(w, room):
            limits.low[k, r] = MOST
            limits.high[k, r] = -MOST
        most = max(most, w)
        set_reach(limits, r)
    return most


@inlined
def set_reach(limits: Limits, r: int) -> None:
    """Note the smallest measure that could matter to any search of a row."""
    reach = limits.low[0, r]
    for k in range(1, limits.low.shape[0]):
        reach = min(reach, limits.low[k, r])
    limits.reach[r] = reach


@kernel
def measure(
    products: NDArray[Any], own: Any, others: NDArray[Any], grain: Any, out: Int32Array
) -> None:
    """Fill `out` (C,) with the measures of one row and C others, from their products."""
    for c in range(products.size):
        out[c] = np.int32((products[c] - (own + others[c])) * grain)


@kernel
def any_within(values: NDArray[Any], low: Any, high: Any) -> bool:
    """Say whether any value lies in a closed interval."""
    hit = False
    for c in range(values.size):
        hit |= (values[c] >= low) & (values[c] <= high)
    return hit
