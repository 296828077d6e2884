"""The bounded lists of best negatives: the one place that says which negative is preferred."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facequarry.miner.kernels.compiled import inlined, kernel
from facequarry.miner.kernels.hashed_d2 import d2_of, fold
from facequarry.miner.kernels.layout import (
    FARTHEST,
    HASH,
    NEAREST,
    Float32Array,
    Int64Array,
    Rows,
    Searches,
)


@inlined
def place_of(searches: Searches, q: int) -> int:
    """Return where the list of a search begins."""
    sort = searches.sort[q]
    return int(searches.place[sort] + (q - searches.first[sort]) * searches.wanted[sort])


@kernel
def _precedes(
    rows: Rows, searches: Searches, q: int, row: int, d2: np.float32, other: int, its_d2: np.float32
) -> bool:
    """Say whether one negative is preferred to another; no two are equal."""
    order = searches.order[searches.sort[q]]
    if order == HASH:
        state = searches.state[q]  # for one state no two ids collide
        mine, its = np.uint64(rows.ids[row]), np.uint64(rows.ids[other])
        return bool(fold(state, mine) < fold(state, its))
    if d2 != its_d2:
        return bool((d2 < its_d2) == (order == NEAREST))
    return bool(rows.ids[row] < rows.ids[other])


@kernel
def offer(rows: Rows, searches: Searches, q: int, row: int, d2: np.float32) -> bool:
    """Insert a negative that qualifies where it belongs; return whether the list changed."""
    sort, num, place = searches.sort[q], searches.num[q], place_of(searches, q)
    # Leave out a worse one of the same identity, or the last when the list is full.
    leaves = num
    if searches.distinct[sort]:
        for k in range(num):
            if rows.first[searches.row[place + k]] == rows.first[row]:
                leaves = k
    if leaves == num and num == searches.wanted[sort]:
        leaves = num - 1
    if leaves < num:
        worse, worse_d2 = searches.row[place + leaves], searches.d2[place + leaves]
        if not _precedes(rows, searches, q, row, d2, worse, worse_d2):
            return False
    k = place + leaves
    while k > place:
        before, before_d2 = searches.row[k - 1], searches.d2[k - 1]
        if not _precedes(rows, searches, q, row, d2, before, before_d2):
            break
        searches.row[k] = before
        searches.d2[k] = before_d2
        k -= 1
    searches.row[k] = row
    searches.d2[k] = d2
    searches.num[q] = max(num, leaves + 1)
    return True


@inlined
def offer_only(rows: Rows, searches: Searches, q: int, row: int, d2: np.float32) -> bool:
    """Do what `offer` does for a search for the one nearest row; return whether it was taken."""
    place = place_of(searches, q)
    if searches.num[q]:
        best, best_d2 = searches.row[place], searches.d2[place]
        if d2 > best_d2 or (d2 == best_d2 and rows.ids[row] >= rows.ids[best]):
            return False
    searches.row[place], searches.d2[place], searches.num[q] = row, d2, 1
    return True


@inlined
def admitted(searches: Searches, q: int) -> tuple[float, float]:
    """Return the closed d2 interval in which a negative could still enter the list of a search.

    It lies between the search's limits, and is no worse than the last of a full list.
    """
    least, most = np.float64(searches.low[q]), np.float64(searches.high[q])
    sort = searches.sort[q]
    wanted = searches.wanted[sort]
    if searches.num[q] == wanted and not searches.counted[sort]:
        worst = np.float64(searches.d2[place_of(searches, q) + wanted - 1])
        if searches.order[sort] == NEAREST:
            most = min(most, worst)
        elif searches.order[sort] == FARTHEST:
            least = max(least, worst)
    return least, most


@inlined
def is_outhashed(rows: Rows, searches: Searches, q: int, row: int) -> bool:
    """Say whether the hash alone keeps a row out: it does so far more often than the distance."""
    sort = searches.sort[q]
    if searches.order[sort] != HASH or searches.num[q] < searches.wanted[sort]:
        return False
    state = searches.state[q]
    worst = searches.row[place_of(searches, q) + searches.wanted[sort] - 1]
    mine, its = np.uint64(rows.ids[row]), np.uint64(rows.ids[worst])
    return bool(fold(state, mine) > fold(state, its))


@kernel
def scan_candidates(
    rows: Rows,
    searches: Searches,
    anchors: Int64Array,
    candidates: Int64Array,
    d2: Float32Array,
    begin: int,
    end: int,
) -> None:
    """Offer the anchors at slots `begin:end` their candidates (A, K), whose defined d2 is known."""
    for slot in range(begin, end):
        first = rows.first[anchors[slot]]
        for g in range(searches.order.size):
            for q in range(searches.begin[g, slot], searches.begin[g, slot + 1]):
                for k in range(candidates.shape[1]):
                    row = candidates[slot, k]
                    if row < 0 or rows.first[row] == first:
                        continue
                    if searches.low[q] <= d2[slot, k] <= searches.high[q]:
                        if searches.counted[g]:
                            searches.total[q] += 1
                        offer(rows, searches, q, row, d2[slot, k])


@kernel
def scan_hashes(rows: Rows, searches: Searches, anchors: Int64Array, begin: int, end: int) -> None:
    """Offer every row to the HASH searches of the anchors at slots `begin:end`.

    Distances are taken only of what would enter.
    """
    for slot in range(begin, end):
        anchor = anchors[slot]
        for q in range(searches.begin[0, slot], searches.begin[0, slot + 1]):
            for row in range(rows.ids.size):
                if rows.first[row] == rows.first[anchor]:
                    continue
                if is_outhashed(rows, searches, q, row):
                    continue
                d2 = d2_of(rows.x, anchor, row)
                if searches.low[q] <= d2 <= searches.high[q]:
                    offer(rows, searches, q, row, d2)


@kernel
def choose_by_hash(
    rows: Rows,
    anchors: Int64Array,
    state: NDArray[np.uint64],
    chosen: Int64Array,
    begin: int,
    end: int,
) -> None:
    """Fill `chosen` (A, K) with each anchor's K positives of smallest hash, -1 where there is none.

    They are in order of their hash; `state` (A,) is what a positive's id is folded into.
    """
    for slot in range(begin, end):
        num = 0
        for row in range(rows.first[anchors[slot]], rows.last[anchors[slot]]):
            if row == anchors[slot]:
                continue
            key = fold(state[slot], np.uint64(rows.ids[row]))
            k = num
            while k > 0:
                before = chosen[slot, k - 1]
                if key > fold(state[slot], np.uint64(rows.ids[before])):
                    break
                if k < chosen.shape[1]:
                    chosen[slot, k] = before
                k -= 1
            if k < chosen.shape[1]:
                chosen[slot, k] = row
                num = min(num + 1, chosen.shape[1])


@kernel
def merge_lists(
    rows: Rows,
    searches: Searches,
    which: Int64Array,
    num: NDArray[np.int32],
    row: NDArray[np.int32],
    d2: Float32Array,
) -> None:
    """Offer lists that were found apart to some searches; the order of merging never shows.

    Args:
        rows: the gallery.
        searches: updated in place, but for `total`.
        which: (H,) searches.
        num: (H,) how many entries each list has.
        row: (E,) gallery rows, list after list.
        d2: (E,) their defined d2, all of them within the search's limits.
    """
    k = 0
    for h in range(which.size):
        for _ in range(num[h]):
            offer(rows, searches, which[h], row[k], d2[k])
            k += 1
