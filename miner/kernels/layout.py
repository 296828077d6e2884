"""What searches are made of: the gallery, the queries and the best lists, as plain arrays.

Named tuples of arrays, because compiled kernels take them as they are; nothing here needs numba,
torch or FAISS, so that every engine, the GPU's included, speaks of the same things.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NEAREST, FARTHEST, HASH = 0, 1, 2
"""Orders in which a search prefers negatives: smallest d2, largest d2, smallest hash."""

Int64Array = NDArray[np.int64]
Float32Array = NDArray[np.float32]


class Rows(NamedTuple):
    """The gallery, sorted by identity and by id within one; made by `miner.rows.check_rows`."""

    x: Float32Array
    """(N, D) unit rows, exactly as given."""
    ids: Int64Array
    """(N,) the caller's row numbers (face_index in a run), for output, hashes and ties."""
    first: Int64Array
    """(N,) first row of this row's identity."""
    last: Int64Array
    """(N,) one past the last row of this row's identity."""
    norms2: NDArray[np.float64]
    """(N,) squared norms."""


class Query(NamedTuple):
    """Q searches of one sort; each asks for the best negatives with d2 in [low, high]."""

    slot: Int64Array
    """(Q,) position of the anchor among the anchors of the band, ascending."""
    low: Float32Array
    """(Q,) smallest d2 that qualifies."""
    high: Float32Array
    """(Q,) largest d2 that qualifies; below `low` when nothing can."""
    state: NDArray[np.uint64]
    """(Q,) hash state that a negative's id is folded into; empty but for HASH."""
    order: int
    """NEAREST, FARTHEST or HASH; ties go to the lower id."""
    wanted: int
    """Negatives to keep per search."""
    distinct: bool
    """Keep at most one negative per identity."""
    counted: bool
    """Also count all that qualify; costs the pruning, so it is for rare ones. NEAREST only."""


class Best(NamedTuple):
    """The best negatives of Q searches so far, best first; M is the query's `wanted`."""

    row: NDArray[np.int32]
    """(Q, M) rows, -1 where there is none."""
    d2: Float32Array
    """(Q, M) distances to the anchor."""
    num: NDArray[np.int32]
    """(Q,) how many there are."""
    total: Int64Array
    """(Q,) all that qualified, kept or not; empty but for counted queries."""


class Searches(NamedTuple):
    """Queries of G sorts with their lists, side by side, so that one pass answers them all."""

    begin: Int64Array
    """(G, A + 1) the searches of sort g of the anchor at slot s are `begin[g, s]:begin[g, s + 1]`
    of the Q that there are in all."""
    sort: NDArray[np.int8]
    """(Q,) which query each is from."""
    low: Float32Array
    """(Q,) as in `Query`."""
    high: Float32Array
    """(Q,) as in `Query`."""
    state: NDArray[np.uint64]
    """(Q,) as in `Query`; empty where no sort needs it."""
    order: Int64Array
    """(G,) as in `Query`, and so are `wanted`, `distinct` and `counted`."""
    wanted: Int64Array
    distinct: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    first: Int64Array
    """(G,) number of the sort's first search."""
    place: Int64Array
    """(G,) where the list of that search begins in `row` and `d2`."""
    row: NDArray[np.int32]
    """(L,) the lists of `Best`, one after the other."""
    d2: Float32Array
    """(L,) distances to the anchor."""
    num: NDArray[np.int32]
    """(Q,) how many are in each list."""
    total: Int64Array
    """(Q,) as in `Best`; empty where no sort is counted."""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one `Query`."""

    best: Best
    """The negatives, best first."""

    complete: NDArray[np.bool_]
    """(Q,) true where nothing that was not looked at could change the answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What an engine says of itself."""

    engine: str
    """exact, routed or faiss."""
    index: str | None = None
    """What it routes by; None where it looks at every row."""
    largest_k: int | None = None
    """Largest K that FAISS was asked for."""
    num_resolved: int = 0
    """Anchors that it handed to the exact engine."""
    symmetric: bool = False
    """Whether the products of one row with another served both as anchors."""
    undecided_share: float | None = None
    """Share of the products looked at whose distance had to be computed."""


def make_query(
    slot: Int64Array,
    low: Float32Array | np.float32,
    high: Float32Array | np.float32,
    *,
    state: NDArray[np.uint64] | None = None,
    order: int = NEAREST,
    wanted: int = 1,
    distinct: bool = False,
    counted: bool = False,
) -> Query:
    """Return a `Query`; single limits are repeated, the rest is as described there."""
    return Query(
        slot=np.ascontiguousarray(slot, np.int64),
        low=np.array(np.broadcast_to(low, slot.shape), np.float32),
        high=np.array(np.broadcast_to(high, slot.shape), np.float32),
        state=np.empty(0, np.uint64) if state is None else state,
        order=order,
        wanted=wanted,
        distinct=distinct,
        counted=counted,
    )


def take_searches(query: Query, which: Int64Array, slots: Int64Array) -> Query:
    """Return some searches of a query.

    Args:
        query: all of them.
        which: (W,) positions in it, ascending.
        slots: (A,) the new slot of each anchor.
    """
    return query._replace(
        slot=slots[query.slot[which]],
        low=query.low[which],
        high=query.high[which],
        # Empty where the order needs none.
        state=query.state[which] if query.state.size else query.state,
    )


def no_best(query: Query) -> Best:
    """Return empty lists for every search of `query`."""
    return bests_of([query], open_searches([query], 0))[0]


def open_searches(queries: Sequence[Query], num_anchors: int) -> Searches:
    """Return queries about A anchors side by side, with empty lists."""
    sizes = np.array([query.slot.size for query in queries])
    wanted = np.array([query.wanted for query in queries])
    total = int(sizes.sum())
    first = np.cumsum(sizes) - sizes
    slots = np.arange(num_anchors + 1)
    begin = [np.searchsorted(query.slot, slots) for query in queries] + first[:, None]
    hashed = any(query.state.size for query in queries)
    states = [
        query.state if query.state.size else np.zeros(query.slot.size, np.uint64)
        for query in queries
    ]
    counted = np.array([query.counted for query in queries])
    room = sizes * wanted
    return Searches(
        begin=begin.astype(np.int64),
        sort=np.repeat(np.arange(len(queries), dtype=np.int8), sizes),
        low=np.concatenate([query.low for query in queries]),
        high=np.concatenate([query.high for query in queries]),
        state=np.concatenate(states) if hashed else np.empty(0, np.uint64),
        order=np.array([query.order for query in queries]),
        wanted=wanted,
        distinct=np.array([query.distinct for query in queries]),
        counted=counted,
        first=first,
        place=np.cumsum(room) - room,
        row=np.full(room.sum(), -1, np.int32),
        d2=np.zeros(room.sum(), np.float32),
        num=np.zeros(total, np.int32),
        total=np.zeros(total if counted.any() else 0, np.int64),
    )


def bests_of(queries: Sequence[Query], searches: Searches) -> list[Best]:
    """Return the lists of each query: views of what the searches hold."""
    bests = []
    for query, first, place in zip(queries, searches.first, searches.place, strict=True):
        some = slice(first, first + query.slot.size)
        room = slice(place, place + query.slot.size * query.wanted)
        shape = (query.slot.size, query.wanted)
        bests.append(
            Best(
                row=searches.row[room].reshape(shape),
                d2=searches.d2[room].reshape(shape),
                num=searches.num[some],
                total=searches.total[some] if query.counted else np.empty(0, np.int64),
            )
        )
    return bests
