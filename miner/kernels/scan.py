"""The scan of a tile from both its sides: most products are cleared many at a time."""

from __future__ import annotations

from typing import Any

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


@kernel
def scan_tile(
    rows: Rows,
    searches: Searches,
    tile: NDArray[Any],
    scale: Scale,
    left: Side,
    right: Side,
    left_limits: Limits,
    right_limits: Limits,
    num_right: int,
    most_decided: int,
) -> tuple[int, int]:
    """Offer the rows of a tile's right side to the anchors of its left side, and the other way.

    Args:
        rows: the gallery.
        searches: the lists of those anchors are updated in place.
        tile: (R, C) products of the left side's rows with the right side's; shifted in place.
        scale: what a product says about d2.
        left: R rows.
        right: C rows; without slots the tile serves its left side only.
        left_limits: room for R rows.
        right_limits: of the C rows, from `set_limits`; kept up to date.
        num_right: most searches of a row on the right.
        most_decided: stop after the row in which more distances than this had to be computed.

    Returns:
        The row of the tile after the last one looked at, and how many distances were computed.
    """
    decided = 0
    width = tile.shape[1]
    num_left = set_limits(rows, searches, left, right, scale, left_limits)
    for r in range(tile.shape[0]):
        shift_row(tile[r], left_limits.shift[r], right_limits.shift)
        for start in range(0, width, _BLOCK):
            stop = min(start + _BLOCK, width)
            values = tile[r, start:stop]
            reaches = right_limits.reach[start:stop]
            num = _num_reaching(values, reaches, left_limits.reach[r])
            if not num:
                continue
            right_limits.known[start:stop] = np.nan
            if num <= _FEW:
                decided += _scan_few(
                    rows,
                    searches,
                    scale,
                    left,
                    right,
                    left_limits,
                    right_limits,
                    values,
                    r,
                    start,
                    num_left,
                    num_right,
                )
                continue
            for w in range(num_left):
                low, high = left_limits.low[w, r], left_limits.high[w, r]
                if any_within(values, low, high):
                    decided += _scan_left(
                        rows,
                        searches,
                        scale,
                        left,
                        right,
                        left_limits,
                        right_limits.known,
                        values,
                        r,
                        start,
                        w,
                    )
            for w in range(num_right):
                lows, highs = right_limits.low[w, start:stop], right_limits.high[w, start:stop]
                if _any_within_each(values, lows, highs):
                    decided += _scan_right(
                        rows, searches, scale, left, right, right_limits, values, r, start, w
                    )
        if decided > most_decided:
            return r + 1, decided
    return tile.shape[0], decided


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


@inlined
def _scan_few(
    rows: Rows,
    searches: Searches,
    scale: Scale,
    left: Side,
    right: Side,
    left_limits: Limits,
    right_limits: Limits,
    values: NDArray[Any],
    r: int,
    start: int,
    num_left: int,
    num_right: int,
) -> int:
    """Decide a block in which few products could matter to any search: product by product."""
    decided = 0
    for first in range(0, values.size, _LANES):
        last = min(first + _LANES, values.size)
        reaches = right_limits.reach[start + first : start + last]
        if not _num_reaching(values[first:last], reaches, left_limits.reach[r]):
            continue
        for c in range(first, last):
            if values[c] >= left_limits.reach[r]:
                decided += _meet_left(
                    rows,
                    searches,
                    scale,
                    left,
                    right,
                    left_limits,
                    right_limits.known,
                    values[c],
                    r,
                    start + c,
                    0,
                    num_left,
                )
            if values[c] >= right_limits.reach[start + c]:
                decided += _meet_right(
                    rows,
                    searches,
                    scale,
                    left,
                    right,
                    right_limits,
                    right_limits.known,
                    values[c],
                    r,
                    start + c,
                    0,
                    num_right,
                )
    return decided


@inlined
def _scan_left(
    rows: Rows,
    searches: Searches,
    scale: Scale,
    left: Side,
    right: Side,
    limits: Limits,
    known: Float32Array,
    values: NDArray[Any],
    r: int,
    start: int,
    w: int,
) -> int:
    """Decide what the limits of one search of a left row let through in one block."""
    decided = 0
    for first in range(0, values.size, _LANES):
        last = min(first + _LANES, values.size)
        if not any_within(values[first:last], limits.low[w, r], limits.high[w, r]):
            continue
        for c in range(first, last):
            if limits.low[w, r] <= values[c] <= limits.high[w, r]:
                decided += _meet_left(
                    rows,
                    searches,
                    scale,
                    left,
                    right,
                    limits,
                    known,
                    values[c],
                    r,
                    start + c,
                    w,
                    w + 1,
                )
    return decided


@inlined
def _scan_right(
    rows: Rows,
    searches: Searches,
    scale: Scale,
    left: Side,
    right: Side,
    limits: Limits,
    values: NDArray[Any],
    r: int,
    start: int,
    w: int,
) -> int:
    """Decide, in one block, where the left row could enter search `w` of a right row."""
    decided = 0
    for first in range(0, values.size, _LANES):
        last = min(first + _LANES, values.size)
        lows = limits.low[w, start + first : start + last]
        highs = limits.high[w, start + first : start + last]
        if not _any_within_each(values[first:last], lows, highs):
            continue
        for c in range(first, last):
            if limits.low[w, start + c] <= values[c] <= limits.high[w, start + c]:
                decided += _meet_right(
                    rows,
                    searches,
                    scale,
                    left,
                    right,
                    limits,
                    limits.known,
                    values[c],
                    r,
                    start + c,
                    w,
                    w + 1,
                )
    return decided


@kernel
def _meet_left(
    rows: Rows,
    searches: Searches,
    scale: Scale,
    left: Side,
    right: Side,
    limits: Limits,
    known: Float32Array,
    value: Any,
    r: int,
    c: int,
    begin: int,
    end: int,
) -> int:
    """Offer a right row to the searches `begin:end` of a left row, as far as its product says."""
    anchor, row = left.row[r], right.row[c]
    if rows.first[row] == rows.first[anchor]:
        return 0
    half = half_width(anchor, right, scale)
    decided = 0
    for w in range(begin, end):
        if not limits.low[w, r] <= value <= limits.high[w, r]:
            continue
        q = _nth(searches, left.slot[r], w)
        if _is_out(rows, searches, q, row, -scale.unit * value, half):
            continue
        decided += _know(rows, anchor, row, known, c)
        if _offer_known(rows, searches, q, row, known[c]):
            low, high = bounds(searches, q, half, scale.unit)
            set_one(limits, w, r, low, high, scale.is_whole)
            set_reach(limits, r)
    return decided


@kernel
def _meet_right(
    rows: Rows,
    searches: Searches,
    scale: Scale,
    left: Side,
    right: Side,
    limits: Limits,
    known: Float32Array,
    value: Any,
    r: int,
    c: int,
    begin: int,
    end: int,
) -> int:
    """Offer a left row to the searches `begin:end` of a right row, as far as its product says."""
    anchor, row = right.row[c], left.row[r]
    if rows.first[row] == rows.first[anchor]:
        return 0
    half = half_width(anchor, left, scale)
    decided = 0
    for w in range(begin, end):
        if not limits.low[w, c] <= value <= limits.high[w, c]:
            continue
        q = _nth(searches, right.slot[c], w)
        if _is_out(rows, searches, q, row, -scale.unit * value, half):
            continue
        decided += _know(rows, anchor, row, known, c)
        if _offer_known(rows, searches, q, row, known[c]):
            low, high = bounds(searches, q, half, scale.unit)
            set_one(limits, w, c, low, high, scale.is_whole)
            set_reach(limits, c)
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
def _know(rows: Rows, anchor: int, row: int, known: Float32Array, c: int) -> int:
    """Measure two rows unless that was done; return how many distances that took."""
    if not np.isnan(known[c]):
        return 0
    known[c] = d2_of(rows.x, anchor, row)
    return 1


@inlined
def _offer_known(rows: Rows, searches: Searches, q: int, row: int, d2: np.float32) -> bool:
    """Offer a row by its defined d2; return whether the list changed."""
    if not searches.low[q] <= d2 <= searches.high[q]:
        return False
    if searches.counted[searches.sort[q]]:
        searches.total[q] += 1
    return bool(offer(rows, searches, q, row, d2))
