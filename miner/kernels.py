"""Every compiled loop of the miner: the defined distance, the seeded hash, the bounded best lists.

They share one file on purpose: numba's cache watches only the file in which a kernel is defined,
so a kernel that calls into another file would go on running the old callee after an edit there.
All kernels release the GIL and write only to rows `begin:end` of their outputs, so that threads
share the work without locks and their number cannot show in the results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from miner.layout import FARTHEST, HASH, NEAREST, Best, Float32Array, Int64Array, Query, Rows

F = TypeVar("F", bound=Callable[..., Any])

# Elements that one vectorised comparison clears before any is looked at by itself.
_BLOCK = 128
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def kernel(function: F) -> F:
    """Compile without fast-math, so that floating-point operations stay in source order."""
    return cast(F, numba.njit(nogil=True, cache=True)(function))


def _inlined(function: F) -> F:
    """Compile into each caller: handing a gallery over costs more than a short loop."""
    return cast(F, numba.njit(nogil=True, cache=True, inline="always")(function))


def _reassociating_kernel(function: F) -> F:
    return cast(
        F, numba.njit(nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"})(function)
    )


@kernel
def mix(z: np.uint64) -> np.uint64:
    """Return the splitmix64 finaliser of `z`, a bijection on 64-bit integers."""
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@kernel
def fold(state: np.uint64, value: np.uint64) -> np.uint64:
    """Take one integer into a hash state; for one state no two values collide."""
    return mix(state + _GOLDEN * (value + np.uint64(1)))


@kernel
def fold_each(state: NDArray[np.uint64], values: Int64Array) -> NDArray[np.uint64]:
    """Return (T,) uint64, `fold(state[i], values[i])`."""
    out = np.empty(values.size, np.uint64)
    for i in range(values.size):
        out[i] = fold(state[i], np.uint64(values[i]))
    return out


@kernel
def d2_in_order(x: Float32Array, i: int, j: int) -> np.float32:
    """Return the defined d2 of rows i and j, by the definition itself."""
    total = 0.0
    for k in range(x.shape[1]):
        difference = np.float64(x[i, k]) - np.float64(x[j, k])
        total += difference * difference
    return np.float32(total)


@_reassociating_kernel
def _d2_in_any_order(x: Float32Array, i: int, j: int) -> float:
    total = 0.0
    for k in range(x.shape[1]):
        difference = np.float64(x[i, k]) - np.float64(x[j, k])
        total += difference * difference
    return total


@kernel
def d2_of(x: Float32Array, i: int, j: int) -> np.float32:
    """Return the defined d2 of rows i and j, by the fast way wherever that is proven equal.

    Two float64 sums of the same D non-negative terms, in any order and with or without fused
    multiply-add, differ by less than (2 D + 4) 2^-53 of their value. When everything that near
    rounds to one float32, the order does not matter; otherwise the definition is followed.
    """
    total = _d2_in_any_order(x, i, j)
    slack = total * (4.0 * x.shape[1] + 16.0) * 2.0**-53
    low = np.float32(total - slack)
    if low == np.float32(total + slack):
        return low
    return d2_in_order(x, i, j)


@kernel
def d2_of_pairs(x: Float32Array, rows: Int64Array, others: Int64Array) -> Float32Array:
    """Return (T,) float32, the defined d2 of `rows[i]` and `others[i]`."""
    out = np.empty(rows.size, np.float32)
    for i in range(rows.size):
        out[i] = d2_of(x, rows[i], others[i])
    return out


@kernel
def d2_of_candidates(
    x: Float32Array,
    anchors: Int64Array,
    candidates: Int64Array,
    out: Float32Array,
    begin: int,
    end: int,
) -> None:
    """Fill `out` (A, K) with the defined d2 of each anchor and its candidates; skip row -1."""
    for a in range(begin, end):
        for k in range(candidates.shape[1]):
            if candidates[a, k] >= 0:
                out[a, k] = d2_of(x, anchors[a], candidates[a, k])


@_inlined
def _key(query: Query, q: int, d2: np.float32, an_id: int) -> np.uint64:
    if query.order == HASH:
        return fold(query.state[q], np.uint64(an_id))
    # The bits of non-negative floats sort as the floats do.
    bits = np.uint64(np.float32(d2).view(np.uint32))
    return bits if query.order == NEAREST else ~bits


@_inlined
def _offer(rows: Rows, query: Query, best: Best, q: int, row: int, d2: np.float32) -> bool:
    """Insert a negative that qualifies where it belongs; return whether the list changed."""
    key = _key(query, q, d2, rows.ids[row])
    num = best.num[q]
    # Leave out a worse one of the same identity, or the last when the list is full.
    leaves = num
    if query.distinct:
        for k in range(num):
            if rows.first[best.row[q, k]] == rows.first[row]:
                leaves = k
    if leaves == num and num == query.wanted:
        leaves = num - 1
    if leaves < num and not _precedes(rows, key, row, best, q, leaves):
        return False
    k = leaves
    while k > 0 and _precedes(rows, key, row, best, q, k - 1):
        best.key[q, k] = best.key[q, k - 1]
        best.row[q, k] = best.row[q, k - 1]
        best.d2[q, k] = best.d2[q, k - 1]
        k -= 1
    best.key[q, k] = key
    best.row[q, k] = row
    best.d2[q, k] = d2
    best.num[q] = max(num, leaves + 1)
    return True


@_inlined
def _precedes(rows: Rows, key: np.uint64, row: int, best: Best, q: int, k: int) -> bool:
    if key != best.key[q, k]:
        return bool(key < best.key[q, k])
    return bool(rows.ids[row] < rows.ids[best.row[q, k]])


@_inlined
def _admitted(query: Query, best: Best, q: int) -> tuple[float, float]:
    """Return the closed d2 interval in which a negative could still enter the list of q."""
    low, high = np.float64(query.low[q]), np.float64(query.high[q])
    if best.num[q] == query.wanted and not query.counted:
        worst = np.float64(best.d2[q, query.wanted - 1])
        if query.order == NEAREST:
            high = min(high, worst)
        elif query.order == FARTHEST:
            low = max(low, worst)
    return low, high


@kernel
def _round_down(value: float) -> np.float32:
    rounded = np.float32(value)
    return np.float32(np.nextafter(rounded, np.float32(-np.inf))) if rounded > value else rounded


@kernel
def _round_up(value: float) -> np.float32:
    rounded = np.float32(value)
    return np.float32(np.nextafter(rounded, np.float32(np.inf))) if rounded < value else rounded


@kernel
def scan_tile(
    rows: Rows,
    query: Query,
    best: Best,
    tile: Float32Array,
    first_slot: int,
    column: int,
    norm2: float,
    error: float,
    begin: int,
    end: int,
) -> None:
    """Offer the rows of one tile to searches `begin:end`.

    Args:
        rows: the gallery.
        query: the searches.
        best: updated in place.
        tile: (A, C) float32, approximately -2 a.b for the anchors from `first_slot` on and the
            gallery rows `column:column + C`.
        first_slot: slot of the tile's first row.
        column: gallery row of the tile's first column.
        norm2: what stands for |b|^2 of every gallery row.
        error: bound on |tile + |a|^2 + norm2 - d2|, from `miner.distance.product_error`.
        begin: first search.
        end: one past the last search.
    """
    width = tile.shape[1]
    for q in range(begin, end):
        if query.low[q] > query.high[q]:
            continue
        slot = query.slot[q] - first_slot
        norms2 = rows.norms2[query.row[q]] + norm2
        low, high = _limits(query, best, q, norms2, error)
        values = tile[slot]
        if not _any_within(values, low, high):
            continue
        for start in range(0, width, _BLOCK):
            stop = min(start + _BLOCK, width)
            if _any_within(values[start:stop], low, high):
                _scan_block(rows, query, best, tile, slot, column, norms2, error, q, start, stop)
                low, high = _limits(query, best, q, norms2, error)


@kernel
def _any_within(block: Float32Array, low: np.float32, high: np.float32) -> bool:
    # A bare "or" over a whole array is what the compiler turns into vector instructions.
    hit = False
    for c in range(block.size):
        hit |= (block[c] >= low) & (block[c] <= high)
    return hit


@_inlined
def _limits(
    query: Query, best: Best, q: int, norms2: float, error: float
) -> tuple[np.float32, np.float32]:
    """Return the closed interval of tile values that could belong to an admitted negative."""
    least, most = _admitted(query, best, q)
    return _round_down(least - norms2 - error), _round_up(most - norms2 + error)


@_inlined
def _scan_block(
    rows: Rows,
    query: Query,
    best: Best,
    tile: Float32Array,
    slot: int,
    column: int,
    norms2: float,
    error: float,
    q: int,
    start: int,
    stop: int,
) -> None:
    """Offer what the limits let through in one block of a tile row, deciding by the defined d2."""
    anchor = query.row[q]
    low, high = _limits(query, best, q, norms2, error)
    for c in range(start, stop):
        value = tile[slot, c]
        row = column + c
        if not low <= value <= high or rows.first[row] == rows.first[anchor]:
            continue
        is_full = best.num[q] == query.wanted
        if query.order == HASH and is_full:
            # The hash alone says no far more often than the distance does, and costs less.
            if _key(query, q, np.float32(0), rows.ids[row]) > best.key[q, query.wanted - 1]:
                continue
        if query.counted and is_full:
            nearest = value + norms2 - error
            if nearest > best.d2[q, query.wanted - 1] and nearest + 2 * error < query.high[q]:
                best.total[q] += 1
                continue
        d2 = d2_of(rows.x, anchor, row)
        if not query.low[q] <= d2 <= query.high[q]:
            continue
        best.total[q] += query.counted
        if _offer(rows, query, best, q, row, d2):
            low, high = _limits(query, best, q, norms2, error)


@kernel
def scan_candidates(
    rows: Rows,
    query: Query,
    best: Best,
    candidates: Int64Array,
    d2: Float32Array,
    begin: int,
    end: int,
) -> None:
    """Offer each anchor's candidates (A, K), with their defined d2, to searches `begin:end`."""
    for q in range(begin, end):
        first = rows.first[query.row[q]]
        for k in range(candidates.shape[1]):
            row = candidates[query.slot[q], k]
            if row < 0 or rows.first[row] == first:
                continue
            value = d2[query.slot[q], k]
            if query.low[q] <= value <= query.high[q]:
                best.total[q] += query.counted
                _offer(rows, query, best, q, row, value)


@kernel
def scan_hashes(rows: Rows, query: Query, best: Best, begin: int, end: int) -> None:
    """Offer every row to the HASH searches `begin:end`, taking d2 only of what would enter."""
    for q in range(begin, end):
        anchor = query.row[q]
        for row in range(rows.ids.size):
            if rows.first[row] == rows.first[anchor]:
                continue
            if best.num[q] == query.wanted:
                if _key(query, q, np.float32(0), rows.ids[row]) > best.key[q, query.wanted - 1]:
                    continue
            d2 = d2_of(rows.x, anchor, row)
            if query.low[q] <= d2 <= query.high[q]:
                _offer(rows, query, best, q, row, d2)
