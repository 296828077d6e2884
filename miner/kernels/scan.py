"""The scan of a tile from both its sides: most products are cleared many at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miner.kernels.compiled import inlined, kernel
from miner.kernels.distance import d2_of
from miner.kernels.lists import is_outhashed, offer, place_of
from miner.kernels.tiles import (
    Limits,
    Scale,
    Side,
    bounds,
    half_width,
    set_limits,
    set_one,
    set_reach,
    shift_row,
)
from miner.layout import Float32Array, Rows, Searches

# Products that one vectorised comparison clears before any is looked at by itself: first many,
# then as many as one vector register holds. Where few of many are left, each is looked at alone.
_BLOCK = 128
_LANES = 16
_FEW = 8


class Encounter(NamedTuple):
    """Two sides that meet, and all that is needed to let them."""

    rows: Rows
    searches: Searches
    """The lists of the anchors on both sides; updated in place."""
    scale: Scale
    left: Side
    """R rows."""
    right: Side
    """C rows; without slots only the left side asks."""
    left_limits: Limits
    """Room for R rows."""
    right_limits: Limits
    """Of the C rows, from `set_limits`; kept up to date."""
    known: Float32Array
    """Room for C distances: what was measured for one search serves the others."""


@kernel
def scan_tile(
    met: Encounter, tile: NDArray[Any], num_right: int, most_decided: int
) -> tuple[int, int]:
    """Offer the rows of a tile's right side to the anchors of its left side, and the other way.

    Args:
        met: the two sides.
        tile: (R, C) products of the left side's rows with the right side's; shifted in place.
        num_right: most searches of a row on the right.
        most_decided: stop after the row in which more distances than this had to be computed.

    Returns:
        The row of the tile after the last one looked at, and how many distances were computed.
    """
    decided = 0
    left_limits, right_limits = met.left_limits, met.right_limits
    num_left = set_limits(met.rows, met.searches, met.left, met.right, met.scale, left_limits)
    for r in range(tile.shape[0]):
        shift_row(tile[r], left_limits.shift[r], right_limits.shift)
        for start in range(0, tile.shape[1], _BLOCK):
            stop = min(start + _BLOCK, tile.shape[1])
            num = _num_reaching(
                tile[r, start:stop], right_limits.reach[start:stop], left_limits.reach[r]
            )
            if not num:
                continue
            met.known[start:stop] = np.nan
            if num <= _FEW:
                decided += _scan_few(met, tile[r], r, start, stop, num_left, num_right)
                continue
            for w in range(num_left):
                decided += _scan_left(met, tile[r], r, start, stop, w)
            for w in range(num_right):
                decided += _scan_right(met, tile[r], r, start, stop, w)
        if decided > most_decided:
            return r + 1, decided
    return tile.shape[0], decided


@inlined
def _scan_few(
    met: Encounter,
    values: NDArray[Any],
    r: int,
    start: int,
    stop: int,
    num_left: int,
    num_right: int,
) -> int:
    """Decide a block in which few products could matter to any search: product by product."""
    decided = 0
    reach, reaches = met.left_limits.reach[r], met.right_limits.reach
    for first in range(start, stop, _LANES):
        last = min(first + _LANES, stop)
        if not _num_reaching(values[first:last], reaches[first:last], reach):
            continue
        for c in range(first, last):
            if values[c] >= met.left_limits.reach[r]:
                decided += _meet(met, True, values[c], r, c, 0, num_left)
            if values[c] >= reaches[c]:
                decided += _meet(met, False, values[c], r, c, 0, num_right)
    return decided


@inlined
def _scan_left(met: Encounter, values: NDArray[Any], r: int, start: int, stop: int, w: int) -> int:
    """Decide what the limits of one search of a left row let through in one block."""
    low, high = met.left_limits.low, met.left_limits.high
    decided = 0
    if not any_within(values[start:stop], low[w, r], high[w, r]):
        return decided
    for first in range(start, stop, _LANES):
        last = min(first + _LANES, stop)
        if not any_within(values[first:last], low[w, r], high[w, r]):
            continue
        for c in range(first, last):
            if low[w, r] <= values[c] <= high[w, r]:
                decided += _meet(met, True, values[c], r, c, w, w + 1)
    return decided


@inlined
def _scan_right(met: Encounter, values: NDArray[Any], r: int, start: int, stop: int, w: int) -> int:
    """Decide, in one block, where the left row could enter search `w` of a right row."""
    low, high = met.right_limits.low[w], met.right_limits.high[w]
    decided = 0
    if not _any_within_each(values[start:stop], low[start:stop], high[start:stop]):
        return decided
    for first in range(start, stop, _LANES):
        last = min(first + _LANES, stop)
        if not _any_within_each(values[first:last], low[first:last], high[first:last]):
            continue
        for c in range(first, last):
            if low[c] <= values[c] <= high[c]:
                decided += _meet(met, False, values[c], r, c, w, w + 1)
    return decided


# Bare sums and "or"s over whole arrays are what the compiler turns into vector instructions.
@kernel
def _num_reaching(values: NDArray[Any], reaches: NDArray[Any], reach: Any) -> int:
    num = 0
    for c in range(values.size):
        num += (values[c] >= reach) | (values[c] >= reaches[c])
    return num


@kernel
def any_within(values: NDArray[Any], low: Any, high: Any) -> bool:
    """Say whether any value lies in a closed interval."""
    hit = False
    for c in range(values.size):
        hit |= (values[c] >= low) & (values[c] <= high)
    return hit


@kernel
def _any_within_each(values: NDArray[Any], lows: NDArray[Any], highs: NDArray[Any]) -> bool:
    hit = False
    for c in range(values.size):
        hit |= (values[c] >= lows[c]) & (values[c] <= highs[c])
    return hit


@inlined
def _nth(searches: Searches, slot: int, w: int) -> int:
    """Return the number of an anchor's search `w`, counted over all sorts."""
    g = 0
    while w >= searches.begin[g, slot + 1] - searches.begin[g, slot]:
        w -= searches.begin[g, slot + 1] - searches.begin[g, slot]
        g += 1
    return int(searches.begin[g, slot] + w)


@kernel
def _meet(met: Encounter, left_asks: bool, value: Any, r: int, c: int, begin: int, end: int) -> int:
    """Offer the row on one side to searches `begin:end` of the row on the other.

    Args:
        met: the two sides.
        left_asks: the left row is the anchor; else the right one is.
        value: their shifted product.
        r: the left row's place.
        c: the right row's place.
        begin: first of the anchor's searches.
        end: one past the last of them.

    Returns:
        How many distances were computed, 0 or 1.
    """
    if left_asks:
        side, other, limits, at, across = met.left, met.right, met.left_limits, r, c
    else:
        side, other, limits, at, across = met.right, met.left, met.right_limits, c, r
    rows, searches, scale, known = met.rows, met.searches, met.scale, met.known
    anchor, row = side.row[at], other.row[across]
    if rows.first[row] == rows.first[anchor]:
        return 0
    half = half_width(anchor, other, scale)
    decided = 0
    for w in range(begin, end):
        if not limits.low[w, at] <= value <= limits.high[w, at]:
            continue
        q = _nth(searches, side.slot[at], w)
        if _is_out(rows, searches, q, row, -scale.unit * value, half):
            continue
        if np.isnan(known[c]):
            known[c] = d2_of(rows.x, anchor, row)
            decided += 1
        if _offer_known(rows, searches, q, row, known[c]):
            low, high = bounds(searches, q, half, scale.unit)
            set_one(limits, w, at, low, high, scale.is_whole)
            set_reach(limits, at)
    return decided


@inlined
def _is_out(rows: Rows, searches: Searches, q: int, row: int, middle: float, half: float) -> bool:
    """Say whether a row need not be measured for a search; where it counts, count it.

    Args:
        rows: the gallery.
        searches: the lists.
        q: number of the search.
        row: what might be offered.
        middle: about its distance.
        half: how far that may be off.
    """
    sort = searches.sort[q]
    if searches.counted[sort] and searches.num[q] == searches.wanted[sort]:
        # What certainly qualifies and certainly cannot enter need only be counted.
        worst = searches.d2[place_of(searches, q) + searches.wanted[sort] - 1]
        if middle - half > worst and middle + half < searches.high[q]:
            searches.total[q] += 1
            return True
    return is_outhashed(rows, searches, q, row)


@inlined
def _offer_known(rows: Rows, searches: Searches, q: int, row: int, d2: np.float32) -> bool:
    """Offer a row by its defined d2; return whether the list changed."""
    if not searches.low[q] <= d2 <= searches.high[q]:
        return False
    if searches.counted[searches.sort[q]]:
        searches.total[q] += 1
    return bool(offer(rows, searches, q, row, d2))
