"""Check what the caller gave, once, and sort it by identity: the miner's only view of the faces."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facequarry.datasets.disk.errors import BadInput
from facequarry.miner.core.distance import NORM_TOLERANCE
from facequarry.miner.kernels.layout import Int64Array, Rows

# Rows converted to float64 at a time: checking stays in the cache.
_CHUNK = 1 << 11

T = TypeVar("T", bound=np.generic)


def check_rows(
    embeddings: ArrayLike, identities: ArrayLike, row_ids: Int64Array | None = None
) -> Rows:
    """Check the gallery and return it sorted by identity, and by id within one identity.

    Args:
        embeddings: (N, D) floating-point unit rows; other than float32 is converted once.
        identities: (N,) integers or strings.
        row_ids: (N,) int64, ascending, what to call the rows; None counts them from 0.

    Raises:
        BadInput: a shape, a type or a value is wrong, or there is nothing to mine: fewer than
            two identities, or none with two faces.
    """
    x = np.asarray(embeddings)
    if x.ndim != 2 or x.shape[1] == 0:
        raise BadInput(f"embeddings must have shape (N, D), got {x.shape}")
    if x.dtype.kind != "f":
        raise BadInput(f"embeddings must be floating-point, got {x.dtype}")
    codes = _codes(identities, len(x))
    ids = _ids(row_ids, len(x))
    norms2 = _check_unit(x)
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise BadInput(f"mining needs at least two identities, got {len(sizes)}")
    if sizes.max() < 2:
        raise BadInput("mining needs an identity with at least two faces, every one has only one")
    order = np.argsort(codes, kind="stable")
    stops = np.cumsum(sizes)
    sorted_codes = codes[order]
    return Rows(
        x=_in_order(x, order),
        ids=ids[order],
        first=(stops - sizes)[sorted_codes],
        last=stops[sorted_codes],
        norms2=norms2[order],
    )


def _in_order(x: NDArray[np.floating], order: Int64Array) -> NDArray[np.float32]:
    """Return the float32 rows in order, without a copy where they are that already."""
    x = x.astype(np.float32, copy=False)
    if not np.array_equal(order, np.arange(order.size)):
        x = x[order]
    return writable(np.ascontiguousarray(x))


def writable(array: NDArray[T]) -> NDArray[T]:
    """Return the same memory as an array that may be written to, which nobody does.

    Mapped files and Ray's store give read-only ones. To compiled kernels those are another type, to
    be compiled for anew, and torch warns of each.
    """
    return array if array.flags.writeable else np.asarray(_Writable(array))


class _Writable:
    """The memory of an array, and the array as its owner."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def _codes(identities: ArrayLike, num_rows: int) -> Int64Array:
    labels = np.asarray(identities)
    if labels.shape != (num_rows,):
        raise BadInput(
            f"identities must have shape ({num_rows},) to match embeddings, got {labels.shape}"
        )
    if labels.dtype == object and all(isinstance(label, str) for label in labels):
        labels = labels.astype(str)
    if labels.dtype.kind not in "iuUST" and num_rows:
        raise BadInput(f"identities must be integers or strings, got {labels.dtype}")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _ids(row_ids: Int64Array | None, num_rows: int) -> Int64Array:
    if row_ids is None:
        return np.arange(num_rows, dtype=np.int64)
    if np.asarray(row_ids).dtype.kind not in "iu":
        raise BadInput(f"row_ids must be integers, got {np.asarray(row_ids).dtype}")
    ids = np.array(row_ids, dtype=np.int64)
    if ids.shape != (num_rows,):
        raise BadInput(f"row_ids must have shape ({num_rows},) to match embeddings: {ids.shape}")
    if num_rows and (ids[0] < 0 or not np.all(ids[:-1] < ids[1:])):
        raise BadInput("row_ids must be strictly ascending and not negative")
    return ids


def _check_unit(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the squared norms of the float32 rows, or say which row is not unit length."""
    norms2 = np.empty(len(x))
    for start in range(0, len(x), _CHUNK):
        with np.errstate(over="ignore"):  # what float32 cannot hold is reported below
            rows = x[start : start + _CHUNK].astype(np.float32).astype(np.float64)
        norms2[start : start + _CHUNK] = np.einsum("nd,nd->n", rows, rows)
    bad = np.flatnonzero(~np.isfinite(norms2))
    if bad.size:
        raise BadInput(f"row {bad[0]} of embeddings holds NaN or infinity ({bad.size} rows do)")
    norms = np.sqrt(norms2)
    bad = np.flatnonzero(np.abs(norms - 1) > NORM_TOLERANCE)
    if bad.size:
        raise BadInput(
            f"row {bad[0]} of embeddings has norm {norms[bad[0]]:.6g}, expected 1 within "
            f"{NORM_TOLERANCE} ({bad.size} rows do not); normalise the rows first "
            "(facequarry mine: --normalise)"
        )
    return norms2
