"""The scan of a tile from both its sides: most products are cleared many at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facequarry.miner.kernels.compiled import inlined, kernel
from facequarry.miner.kernels.hashed_d2 import d2_of
from facequarry.miner.kernels.layout import NEAREST, Float32Array, Rows, Searches
from facequarry.miner.kernels.lists import is_outhashed, offer, offer_only, place_of
from facequarry.miner.kernels.tiles import (
    HIDDEN,
    MOST,
    Int32Array,
    Limits,
    Scale,
    Side,
    any_within,
    bounds,
    half_width,
    lowest_measure,
    measure,
    set_limits,
    set_one,
    set_reach,
    within_bits,
)

# Measures that one vectorised comparison clears before any is looked at by itself: first many,
# then as many as one vector register holds. Where only the left side asks, a block is a whole row
# of the tile: the more is seen at once, the fewer rows are let in only to be displaced by a nearer.
_BLOCK = 128
_LANES = 16

# To compare a block with this many searches takes as long as to let two rows meet. Where there are
# fewer measures left than that pays for, they are looked at one by one.
_TESTS_PER_MEETING = 5


class Encounter(NamedTuple):
    """Two sides that meet, and all that is needed to let them."""

    rows: Rows
    searches: Searches
    """The lists of the anchors on both sides; updated in place."""
    scale: Scale
    left: Side
    """R rows."""
    right: Side
    """C rows, ascending; without slots only the left side asks."""
    left_limits: Limits
    """Room for R rows."""
    right_limits: Limits
    """Of the C rows, from `set_limits`; kept up to date."""
    values: Int32Array
    """Room for the measures of one row with C others."""
    known: Float32Array
    """Room for C distances: what was measured for one search serves the others."""


@kernel
def scan_tile(
    met: Encounter, tile: NDArray[Any], num_right: int, most_decided: int
) -> tuple[int, int]:
    """Offer the rows of a tile's right side to the anchors of its left side, and the other way.

    Args:
        met: the two sides.
        tile: (R, C) products of the left side's rows with the right side's.
        num_right: most searches of a row on the right.
        most_decided: stop after the row in which more distances than this had to be computed.

    Returns:
        The row of the tile after the last one looked at, and how many distances were computed.
    """
    decided = 0
    own, others = met.left_limits, met.right_limits
    num_left = set_limits(met.searches, met.left, met.right, met.scale, own)
    most_few = (num_left + num_right) // _TESTS_PER_MEETING
    block = _BLOCK if num_right else tile.shape[1]
    for r in range(tile.shape[0]):
        for start in range(0, tile.shape[1], block):
            stop = min(start + block, tile.shape[1])
            values, reaches = met.values[start:stop], others.reach[start:stop]
            shifts = met.right.shift[start:stop]
            measure(tile[r, start:stop], met.left.shift[r], shifts, met.scale.grain, values)
            if not _any_reaching(values, reaches, own.reach[r]):
                continue
            _hide_own(met, r, start, stop)
            met.known[start:stop] = np.nan
            if _num_reaching(values, reaches, own.reach[r]) <= most_few:
                decided += _scan_few(met, r, start, stop, num_left, num_right)
                continue
            top = _largest(values, np.int32(MOST))
            for w in range(num_left):
                decided += _scan_left(met, r, start, stop, w, top)
            for w in range(num_right):
                decided += _scan_right(met, r, start, stop, w)
        if decided > most_decided:
            return r + 1, decided
    return tile.shape[0], decided


@inlined
def _hide_own(met: Encounter, r: int, start: int, stop: int) -> None:
    """Put faces of one identity out of each other's reach: they are never negatives."""
    row = met.right.row[start:stop]
    first, last = met.left.first[r], met.left.last[r]
    if row[0] < last and row[row.size - 1] >= first:
        for c in range(start + np.searchsorted(row, first), start + np.searchsorted(row, last)):
            met.values[c] = HIDDEN


@inlined
def _scan_few(met: Encounter, r: int, start: int, stop: int, num_left: int, num_right: int) -> int:
    """Decide a block in which few measures could matter to any search: one by one."""
    decided = 0
    values, reach, reaches = met.values, met.left_limits.reach, met.right_limits.reach
    for first in range(start, stop, _LANES):
        last = min(first + _LANES, stop)
        if not _any_reaching(values[first:last], reaches[first:last], reach[r]):
            continue
        for c in range(first, last):
            if values[c] >= reach[r]:
                decided += _meet(met, True, r, c, 0, num_left)
            if values[c] >= reaches[c]:
                decided += _meet(met, False, r, c, 0, num_right)
    return decided


@inlined
def _scan_left(met: Encounter, r: int, start: int, stop: int, w: int, top: Any) -> int:
    """Decide what the limits of one search of a left row let through in one block.

    Args:
        met: the two sides.
        r: the left row's place.
        start: where the block begins.
        stop: where it ends.
        w: the search.
        top: the largest measure of the block.
    """
    values, low, high = met.values[start:stop], met.left_limits.low[w], met.left_limits.high[w, r]
    decided = 0
    while low[r] <= high:
        largest = top if top <= high else _largest(values, high)
        if largest < low[r]:
            break
        q = _nth(met.searches, met.left.slot[r], w)
        keeps_one = _keeps_one(met.searches, q)
        least = low[r]
        if keeps_one:
            # Those go first that could be the nearest. Once the largest of them is admitted, what
            # is below them is out; else the next lot has its turn.
            slack = 2 * half_width(met.left, r, met.right, met.scale) / met.scale.unit
            least = max(least, within_bits(np.floor(largest - slack)))
        c = _next_within(values, 0, least, high)
        while c < values.size:
            if keeps_one:
                decided += _meet_one(met, True, r, start + c, w, q)
            else:
                decided += _meet(met, True, r, start + c, w, w + 1)
            high = min(high, met.left_limits.high[w, r])
            c = _next_within(values, c + 1, max(least, low[r]), high)
        high = np.int32(least - 1)  # else of 64 bits, and half as many are compared at once
    return decided


@inlined
def _scan_right(met: Encounter, r: int, start: int, stop: int, w: int) -> int:
    """Decide, in one block, where the left row could enter search `w` of a right row."""
    values, low, high = met.values, met.right_limits.low[w], met.right_limits.high[w]
    decided = 0
    if not _any_within_each(values[start:stop], low[start:stop], high[start:stop]):
        return decided
    c = _next_within_each(values, start, stop, low, high)
    while c < stop:
        q = _nth(met.searches, met.right.slot[c], w)
        if _keeps_one(met.searches, q):
            decided += _meet_one(met, False, r, c, w, q)
        else:
            decided += _meet(met, False, r, c, w, w + 1)
        c = _next_within_each(values, c + 1, stop, low, high)
    return decided


# Bare sums, "or"s and maxima over whole arrays are what the compiler turns into vector
# instructions.
@kernel
def _any_reaching(values: Int32Array, reaches: Int32Array, reach: Any) -> bool:
    hit = False
    for c in range(values.size):
        hit |= (values[c] >= reach) | (values[c] >= reaches[c])
    return hit


@kernel
def _num_reaching(values: Int32Array, reaches: Int32Array, reach: Any) -> int:
    num = 0
    for c in range(values.size):
        num += (values[c] >= reach) | (values[c] >= reaches[c])
    return num


@kernel
def _any_within_each(values: Int32Array, lows: Int32Array, highs: Int32Array) -> bool:
    hit = False
    for c in range(values.size):
        hit |= (values[c] >= lows[c]) & (values[c] <= highs[c])
    return hit


@kernel
def _largest(values: Int32Array, high: Any) -> Any:
    """Return the largest of the values up to `high`, `HIDDEN` where there is none."""
    largest = np.int32(HIDDEN)
    for c in range(values.size):
        largest = max(largest, values[c] if values[c] <= high else np.int32(HIDDEN))
    return largest


@kernel
def _next_within(values: Int32Array, start: int, low: Any, high: Any) -> int:
    """Return the first place from `start` on whose value is in a closed interval, else the end."""
    for many in (_BLOCK, _LANES):
        while start < values.size:
            last = min(start + many, values.size)
            if any_within(values[start:last], low, high):
                break
            start = last
    while start < values.size and not low <= values[start] <= high:
        start += 1
    return start


@kernel
def _next_within_each(
    values: Int32Array, start: int, stop: int, lows: Int32Array, highs: Int32Array
) -> int:
    """Return the first place from `start` on whose value is in its own interval, else `stop`."""
    while start < stop:
        last = min(start + _LANES, stop)
        if _any_within_each(values[start:last], lows[start:last], highs[start:last]):
            break
        start = last
    while start < stop and not lows[start] <= values[start] <= highs[start]:
        start += 1
    return start


@inlined
def _keeps_one(searches: Searches, q: int) -> bool:
    """Say whether a search asks for the one nearest row and nothing else."""
    g = searches.sort[q]
    return bool(
        searches.order[g] == NEAREST and searches.wanted[g] == 1 and not searches.counted[g]
    )


@inlined
def _nth(searches: Searches, slot: int, w: int) -> int:
    """Return the number of an anchor's search `w`, counted over all sorts."""
    g = 0
    while w >= searches.begin[g, slot + 1] - searches.begin[g, slot]:
        w -= searches.begin[g, slot + 1] - searches.begin[g, slot]
        g += 1
    return int(searches.begin[g, slot] + w)


@inlined
def _turned(met: Encounter, left_asks: bool, r: int, c: int) -> tuple[Side, Side, Limits, int, int]:
    """Return the side that asks and the other, the asking one's limits, and both rows' places."""
    if left_asks:
        return met.left, met.right, met.left_limits, r, c
    return met.right, met.left, met.right_limits, c, r


@kernel
def _meet(met: Encounter, left_asks: bool, r: int, c: int, begin: int, end: int) -> int:
    """Offer the row on one side to searches `begin:end` of the row on the other.

    Args:
        met: the two sides.
        left_asks: the left row is the anchor; else the right one is.
        r: the left row's place.
        c: the right row's place.
        begin: first of the anchor's searches.
        end: one past the last of them.

    Returns:
        How many distances were computed, 0 or 1.
    """
    side, other, limits, at, across = _turned(met, left_asks, r, c)
    rows, searches, scale, known = met.rows, met.searches, met.scale, met.known
    anchor, row, value = side.row[at], other.row[across], met.values[c]
    half = half_width(side, at, other, scale)
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
            before = limits.low[w, at]
            set_one(limits, w, at, low, high)
            if before == limits.reach[at]:
                set_reach(limits, at)
    return decided


@inlined
def _meet_one(met: Encounter, left_asks: bool, r: int, c: int, w: int, q: int) -> int:
    """Do what `_meet` does for a search that `_keeps_one`, without the way there.

    Args:
        met: the two sides.
        left_asks: as for `_meet`, and so are `r` and `c`.
        r: the left row's place.
        c: the right row's place.
        w: the anchor's search.
        q: number of that search.

    Returns:
        As `_meet`.
    """
    side, other, limits, at, across = _turned(met, left_asks, r, c)
    rows, searches, scale, known = met.rows, met.searches, met.scale, met.known
    row = other.row[across]
    if _is_outnumbered(rows, searches, q, row):
        return 0
    decided = 0
    if np.isnan(known[c]):
        known[c] = d2_of(rows.x, side.row[at], row)
        decided = 1
    d2 = known[c]
    if searches.low[q] <= d2 <= searches.high[q] and offer_only(rows, searches, q, row, d2):
        before = limits.low[w, at]
        low = lowest_measure(half_width(side, at, other, scale), np.float64(d2), scale.unit)
        limits.low[w, at] = within_bits(np.ceil(low))
        if before == limits.reach[at]:
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
    return is_outhashed(rows, searches, q, row) or _is_outnumbered(rows, searches, q, row)


@inlined
def _is_outnumbered(rows: Rows, searches: Searches, q: int, row: int) -> bool:
    """Say whether a search found the nearest that there can be, under ids no higher than a row's.

    Else all faces of a collapsed network would have to be measured.
    """
    g = searches.sort[q]
    if searches.order[g] != NEAREST or searches.num[q] < searches.wanted[g]:
        return False
    last = place_of(searches, q) + searches.wanted[g] - 1
    is_nearest = searches.d2[last] == searches.low[q] and not searches.counted[g]
    return bool(is_nearest and rows.ids[row] > rows.ids[searches.row[last]])


@inlined
def _offer_known(rows: Rows, searches: Searches, q: int, row: int, d2: np.float32) -> bool:
    """Offer a row by its defined d2; return whether the list changed."""
    if not searches.low[q] <= d2 <= searches.high[q]:
        return False
    if searches.counted[searches.sort[q]]:
        searches.total[q] += 1
    return bool(offer(rows, searches, q, row, d2))
