"""What a person wants to see of mined triplets: hubs, and identities that are taken for each other.

Computed once from a pass's table, after `mine`; it goes into the generation's manifest, so a replay
repeats it. Everything is a function of the table's rows as a set, and bounded in size.

    observe(mined.table, identities).hubs[0]        # the face that is negative for most anchors
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from facequarry.miner.kernels.layout import Int64Array

MOST_LISTED = 20
"""Hubs, and confused pairs of identities, that are listed."""

Identity = int | str


@dataclass(frozen=True, kw_only=True, slots=True)
class Hub:
    """A face that is the negative of many anchors."""

    face: int
    """Row number; face_index in a run."""
    identity: Identity
    """As the caller labelled it; identity_index in a run."""
    anchors: int
    """Different anchors that it is the negative of."""
    rows: int
    """Rows that name it as negative: what `max_uses_as_negative` limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Confused:
    """Two identities whose faces are each other's negatives."""

    identity_a: Identity
    """The lower label."""
    identity_b: Identity
    """The higher label."""
    rows: int
    """Rows with the anchor in one and the negative in the other."""
    rows_from_a: int
    """Those of them whose anchor is in identity_a."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """What a table shows beside its rows."""

    num_negatives: int
    """Different faces that are a negative."""

    rows_by_uses: list[int]
    """Faces by the rows that name them as negative: position k counts 2^k to 2^(k+1) - 1 rows."""

    hubs: list[Hub]
    """Up to 20 faces, most anchors first; ties go to more rows, then to the lower face."""

    num_confused: int
    """Different pairs of identities among the rows of a kind other than random."""

    confused: list[Confused]
    """Up to 20 of these pairs, most rows first; ties go to the lower labels."""


def observe(table: pa.Table, identities: ArrayLike, row_ids: Int64Array | None = None) -> Observed:
    """Look at the triplets of one pass.

    Rows of kind random are left out of the confused pairs: they say nothing of the embeddings.

    Args:
        table: `Mined.table`; the order of its rows does not matter.
        identities: (N,) as `mine` was given them.
        row_ids: (N,) as `mine` was given them; None where the rows are numbered from 0.
    """
    labels, codes = np.unique(np.asarray(identities), return_inverse=True)
    anchor, negative = table["anchor"].to_numpy(), table["negative"].to_numpy()
    ids = np.arange(codes.size)
    if row_ids is not None:
        ids = np.asarray(row_ids, np.int64)
        anchor, negative = np.searchsorted(ids, anchor), np.searchsorted(ids, negative)
    rows = np.bincount(negative, minlength=ids.size)
    anchors = _num_different(negative, anchor, ids.size)
    # The last key leads; lexsort is stable, so that ties keep the lower face first.
    top = np.lexsort((-rows, -anchors))[:MOST_LISTED]
    told = _rows_told(table["kind"])
    from_identity, to_identity = codes[anchor[told]], codes[negative[told]]
    num_confused, confused = _confused(from_identity, to_identity, labels)
    return Observed(
        num_negatives=int(np.count_nonzero(rows)),
        rows_by_uses=_by_power_of_two(rows[rows > 0]),
        hubs=[
            Hub(
                face=int(ids[face]),
                identity=_plain(labels[codes[face]]),
                anchors=int(anchors[face]),
                rows=int(rows[face]),
            )
            for face in top[rows[top] > 0]
        ],
        num_confused=num_confused,
        confused=confused,
    )


def _rows_told(kind: pa.ChunkedArray) -> slice | NDArray[np.bool_]:
    """Return which rows are of a kind other than random, without decoding the strings."""
    column = kind.unify_dictionaries().combine_chunks()
    kinds = column.dictionary.to_pylist()
    if "random" not in kinds:
        return slice(None)
    told: NDArray[np.bool_] = column.indices.to_numpy() != kinds.index("random")
    return slice(None) if told.all() else told


def _num_different(of: Int64Array, what: Int64Array, count: int) -> Int64Array:
    """Return for each of `count` numbers how many different `what` stand beside it."""
    pairs = of * count + what
    pairs.sort()  # np.unique hashes, which takes a hundred times as long here
    return np.bincount(pairs[_run_starts(pairs)] // count, minlength=count)


def _run_starts(values: Int64Array) -> Int64Array:
    """Return where each run of equal values begins."""
    begins = np.ones(values.size, np.bool_)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return np.flatnonzero(begins)


def _confused(
    from_identity: Int64Array, to_identity: Int64Array, labels: NDArray[np.generic]
) -> tuple[int, list[Confused]]:
    count = labels.size
    low, high = np.minimum(from_identity, to_identity), np.maximum(from_identity, to_identity)
    # The last bit says from which of the two.
    keys = 2 * (low * count + high) + (from_identity == low)
    keys.sort()
    starts = _run_starts(keys >> 1)
    rows = np.diff(starts, append=keys.size)
    rows_from_low = np.add.reduceat(keys & 1, starts) if keys.size else starts
    top = np.argsort(-rows, kind="stable")[:MOST_LISTED]
    pairs = keys[starts[top]] >> 1
    return starts.size, [
        Confused(
            identity_a=_plain(labels[pair // count]),
            identity_b=_plain(labels[pair % count]),
            rows=int(rows[place]),
            rows_from_a=int(rows_from_low[place]),
        )
        for place, pair in zip(top, pairs, strict=True)
    ]


def _by_power_of_two(uses: Int64Array) -> list[int]:
    """Count numbers of at least 1 by the highest bit that is set."""
    exponents = np.frexp(uses.astype(np.float64))[1] - 1
    return np.bincount(exponents).tolist() if uses.size else []


def _plain(label: object) -> Identity:
    """Return a label as JSON has it."""
    value = label.item() if isinstance(label, np.generic) else label
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, int) else str(value)
