"""Triplets and suspects: as columns of gallery rows while they are mined, then as tables of ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from facequarry.datasets.runs.vocabulary import KINDS, REASONS, names
from facequarry.miner.core.hashing import USE, hash_state
from facequarry.miner.kernels.layout import Float32Array, Int64Array

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Triplets:
    """T rows of the table; `anchor`, `positive` and `negative` are gallery rows."""

    anchor: Int64Array
    positive: Int64Array
    negative: Int64Array
    d2_ap: Float32Array
    d2_an: Float32Array
    kind: NDArray[np.int32]
    """Positions in `vocabulary.KINDS`."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """S ordered pairs of gallery rows that a person should look at."""

    reason: NDArray[np.int32]
    """Positions in `vocabulary.REASONS`."""
    face_a: Int64Array
    face_b: Int64Array
    d2: Float32Array


def concatenate(kind: type[T], parts: Sequence[T]) -> T:
    """Join parts whose fields are all columns, column by column."""
    columns = [field.name for field in fields(kind)]
    return kind(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    )


def in_order(ids: Int64Array, parts: Sequence[Triplets]) -> Triplets:
    """Join what bands and rungs served, by anchor id, positive id and rank."""
    joined = concatenate(Triplets, parts)
    anchor, positive = ids[joined.anchor], ids[joined.positive]
    if _is_ascending(anchor, positive):
        return joined
    # Stable: the rows of one pair come from one part and keep their order in it.
    return _take(joined, np.lexsort((positive, anchor)))


def _is_ascending(first: Int64Array, second: Int64Array) -> bool:
    """Say whether positions are in order of one column, and of another where the first is equal."""
    rises = first[1:] > first[:-1]
    return bool((rises | (first[1:] == first[:-1]) & (second[1:] >= second[:-1])).all())


def num_pairs(triplets: Triplets) -> int:
    """Return how many ordered anchor-positive pairs have a row."""
    if not triplets.anchor.size:
        return 0
    # The rows of a pair stand together.
    is_next = np.diff(triplets.anchor).astype(np.bool_) | np.diff(triplets.positive).astype(
        np.bool_
    )
    return 1 + int(np.count_nonzero(is_next))


def cap_uses(ids: Int64Array, triplets: Triplets, most: int, seed: int) -> Triplets:
    """Keep at most `most` rows that name one face as their negative; the order stays.

    Those with the smallest hash(seed, anchor, positive, negative) stay: a function of the rows
    alone, whatever engine found them and in whatever bands.

    Args:
        ids: (N,) what the gallery rows are called.
        triplets: of the whole pass.
        most: rows per negative.
        seed: any integer.
    """
    anchor, positive, negative = (
        ids[rows] for rows in (triplets.anchor, triplets.positive, triplets.negative)
    )
    state = hash_state(seed, USE, anchor, positive, negative)
    order = np.lexsort((positive, anchor, state, negative))
    grouped = negative[order]
    # Rank within the negative: the place in the order, counted from the negative's first place.
    rank = np.arange(order.size) - np.searchsorted(grouped, grouped)
    return _take(triplets, np.sort(order[rank < most]))


def _take(triplets: Triplets, which: Int64Array) -> Triplets:
    return Triplets(
        **{field.name: getattr(triplets, field.name)[which] for field in fields(Triplets)}
    )


def triplet_table(ids: Int64Array, triplets: Triplets) -> pa.Table:
    """Return triplets as `Mined.table` describes them."""
    return pa.table(
        {
            "anchor": ids[triplets.anchor],
            "positive": ids[triplets.positive],
            "negative": ids[triplets.negative],
            "d2_ap": triplets.d2_ap,
            "d2_an": triplets.d2_an,
            "kind": pa.DictionaryArray.from_arrays(pa.array(triplets.kind), pa.array(names(KINDS))),
        }
    )


def suspect_table(ids: Int64Array, suspects: Suspects) -> pa.Table:
    """Return suspects as `Mined.suspects` describes them."""
    faces: NDArray[np.int64] = np.stack([ids[suspects.face_a], ids[suspects.face_b]])
    faces.sort(axis=0)
    # d2 is symmetric: a pair found from both sides is the same pair.
    keys = np.concatenate([suspects.reason[None].astype(np.int64), faces])
    once, first = np.unique(keys, axis=1, return_index=True)
    return pa.table(
        {
            "reason": pa.array([REASONS[reason].name for reason in once[0]], pa.string()),
            "face_a": once[1],
            "face_b": once[2],
            "d2": suspects.d2[first],
        }
    )
