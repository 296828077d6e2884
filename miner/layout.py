"""What searches are made of: the gallery, the queries and the best lists, as plain arrays.

Named tuples of arrays, because compiled kernels take them as they are; nothing here needs numba,
torch or FAISS, so that every engine, the GPU's included, speaks of the same things.
"""

from __future__ import annotations

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
    row: Int64Array
    """(Q,) the anchor's row."""
    low: Float32Array
    """(Q,) smallest d2 that qualifies."""
    high: Float32Array
    """(Q,) largest d2 that qualifies; below `low` when nothing can."""
    state: NDArray[np.uint64]
    """(Q,) hash state that a negative's id is folded into; read for HASH only."""
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

    key: NDArray[np.uint64]
    """(Q, M) what is sorted by, ascending."""
    row: Int64Array
    """(Q, M) rows, -1 where there is none."""
    d2: Float32Array
    """(Q, M) distances to the anchor."""
    num: Int64Array
    """(Q,) how many there are."""
    total: Int64Array
    """(Q,) all that qualified, kept or not; written for counted queries only."""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one `Query`."""

    best: Best
    """The negatives, best first."""

    complete: NDArray[np.bool_]
    """(Q,) true where nothing that was not looked at could change the answer."""


def make_query(
    slot: Int64Array,
    row: Int64Array,
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
        row=np.ascontiguousarray(row, np.int64),
        low=np.array(np.broadcast_to(low, slot.shape), np.float32),
        high=np.array(np.broadcast_to(high, slot.shape), np.float32),
        state=np.zeros(slot.shape, np.uint64) if state is None else state,
        order=order,
        wanted=wanted,
        distinct=distinct,
        counted=counted,
    )


def no_best(query: Query) -> Best:
    """Return empty lists for every search of `query`."""
    shape = (query.slot.size, query.wanted)
    return Best(
        key=np.zeros(shape, np.uint64),
        row=np.full(shape, -1, np.int64),
        d2=np.zeros(shape, np.float32),
        num=np.zeros(shape[0], np.int64),
        total=np.zeros(shape[0], np.int64),
    )
