"""The loops of identity routing: means, look-alikes, candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facequarry.miner.kernels.compiled import kernel, reassociating_kernel
from facequarry.miner.kernels.hashed_d2 import d2_of
from facequarry.miner.kernels.layout import Float32Array, Int64Array, Rows, Searches
from facequarry.miner.kernels.lists import admitted, offer
from facequarry.miner.kernels.tiles import any_within

# Values that one vectorised comparison clears before any is looked at by itself.
_BLOCK = 32


@kernel
def mean_rows(x: Float32Array, bounds: Int64Array, out: Float32Array, begin: int, end: int) -> None:
    """Fill `out` (P, D) with the mean of rows `bounds[p]:bounds[p + 1]`, summed in row order."""
    for p in range(begin, end):
        num = np.float32(bounds[p + 1] - bounds[p])
        for k in range(x.shape[1]):
            out[p, k] = 0
        for row in range(bounds[p], bounds[p + 1]):
            for k in range(x.shape[1]):
                out[p, k] += x[row, k]
        for k in range(x.shape[1]):
            out[p, k] /= num


@kernel
def keep_largest(
    scores: NDArray[np.int32],
    columns: NDArray[np.int32],
    own: NDArray[np.int32],
    places: Int64Array,
    values: NDArray[np.int32],
    kept: NDArray[np.int32],
) -> None:
    """Keep the columns with the largest scores, best first; of equal ones, those that came first.

    Args:
        scores: (A, C).
        columns: (C,) what the columns are called.
        own: (A,) the column that a row must not keep.
        places: (A,) where each row's lists are.
        values: (P, R) scores kept so far, updated in place; the smallest integer where none is.
        kept: (P, R) their columns.
    """
    last = values.shape[1] - 1
    for a in range(scores.shape[0]):
        p = places[a]
        row = scores[a]
        if not _any_above(row, values[p, last]):
            continue
        for start in range(0, row.size, _BLOCK):
            stop = min(start + _BLOCK, row.size)
            worst = values[p, last]
            if not _any_above(row[start:stop], worst):
                continue
            for c in range(start, stop):
                score = row[c]
                if score <= worst or columns[c] == own[a]:
                    continue
                k = last
                while k > 0 and values[p, k - 1] < score:
                    values[p, k] = values[p, k - 1]
                    kept[p, k] = kept[p, k - 1]
                    k -= 1
                values[p, k] = score
                kept[p, k] = columns[c]
                worst = values[p, last]


@kernel
def _any_above(values: NDArray[np.int32], worst: np.int32) -> bool:
    hit = False
    for c in range(values.size):
        hit |= values[c] > worst
    return hit


@kernel
def list_rows(bounds: Int64Array, routes: NDArray[np.int32], candidates: NDArray[np.int32]) -> None:
    """Fill `candidates` (A, C) with the rows of each anchor's identities (A, R), then with -1."""
    for a in range(routes.shape[0]):
        c = 0
        for r in range(routes.shape[1]):
            if routes[a, r] < 0:
                continue
            for row in range(bounds[routes[a, r]], bounds[routes[a, r] + 1]):
                candidates[a, c] = row
                c += 1
        candidates[a, c:] = -1


@reassociating_kernel
def d2_roughly(
    x: Float32Array, anchors: Int64Array, candidates: NDArray[np.int32], out: Float32Array
) -> None:
    """Fill `out` (A, C) with float32 sums within `distance.index_error` of the defined d2.

    Candidates are (A, C) or, the same for all anchors, (1, C). Where one is -1, all later ones are,
    and `out` is not a number.
    """
    for a in range(out.shape[0]):
        listed = a if candidates.shape[0] > 1 else 0
        anchor = anchors[a]
        for c in range(candidates.shape[1]):
            row = candidates[listed, c]
            if row < 0:
                out[a, c:] = np.nan
                break
            total = np.float32(0)
            for k in range(x.shape[1]):
                difference = x[anchor, k] - x[row, k]
                total += difference * difference
            out[a, c] = total


@kernel
def scan_listed(
    rows: Rows,
    searches: Searches,
    anchors: Int64Array,
    slots: Int64Array,
    candidates: NDArray[np.int32],
    tile: Float32Array,
    error: float,
    only_empty: bool,
) -> None:
    """Offer candidates to the searches of some anchors.

    Args:
        rows: the gallery.
        searches: their lists are updated in place.
        anchors: (A,) gallery rows.
        slots: (S,) places of some of them.
        candidates: (S, C) or, the same for all anchors, (1, C) gallery rows, no row twice.
        tile: (S, C) within `error` of their d2; not a number where there is none.
        error: bound on |tile - d2|.
        only_empty: leave out searches that have found something.
    """
    for a in range(slots.size):
        values, slot = tile[a], slots[a]
        listed = a if candidates.shape[0] > 1 else 0
        anchor = anchors[slot]
        for g in range(searches.order.size):
            for q in range(searches.begin[g, slot], searches.begin[g, slot + 1]):
                if searches.low[q] > searches.high[q] or (only_empty and searches.num[q]):
                    continue
                least, most = admitted(searches, q)
                low, high = _round_down(least - error), _round_up(most + error)
                if not any_within(values, low, high):
                    continue
                for start in range(0, values.size, _BLOCK):
                    stop = min(start + _BLOCK, values.size)
                    if not any_within(values[start:stop], low, high):
                        continue
                    for c in range(start, stop):
                        if not low <= values[c] <= high:
                            continue
                        row = candidates[listed, c]
                        if rows.first[row] == rows.first[anchor]:
                            continue
                        d2 = d2_of(rows.x, anchor, row)
                        if not searches.low[q] <= d2 <= searches.high[q]:
                            continue
                        if searches.counted[g]:
                            searches.total[q] += 1
                        if offer(rows, searches, q, row, d2):
                            least, most = admitted(searches, q)
                            low, high = _round_down(least - error), _round_up(most + error)


@kernel
def _round_down(value: float) -> np.float32:
    """Return the largest float32 that is no larger."""
    rounded = np.float32(value)
    return np.float32(np.nextafter(rounded, np.float32(-np.inf))) if rounded > value else rounded


@kernel
def _round_up(value: float) -> np.float32:
    """Return the smallest float32 that is no smaller."""
    rounded = np.float32(value)
    return np.float32(np.nextafter(rounded, np.float32(np.inf))) if rounded < value else rounded
