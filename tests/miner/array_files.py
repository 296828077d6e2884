"""Embeddings and labels in files, as people have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.miner.inputs import separated

X, LABELS = separated(num_identities=6, faces=4, dimension=8, noise=0.6)


def lists(x: NDArray[Any], kind: str = "list") -> pa.Array:
    """Return rows as an Arrow array of lists."""
    values = pa.array(np.ascontiguousarray(x).reshape(-1))
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(values, x.shape[1])
    offsets = np.arange(0, x.size + 1, x.shape[1])
    if kind == "large":
        return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def npy(path: Path, array: NDArray[Any]) -> Path:
    np.save(path, array, allow_pickle=array.dtype == object)
    return path


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=7)
    return path


def text(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


Writer = Callable[[Path], Path]
"""Writes into a folder; returns what `--embeddings` or `--labels` names."""


def parquet_parts(folder: Path) -> Path:
    """Write X as a folder of two Parquet files, and an empty one between them."""
    parts = folder / "parts"
    parts.mkdir()
    parquet(parts / "a.parquet", e=lists(X[:10]))
    parquet(parts / "b.parquet", e=lists(X[:0]))
    parquet(parts / "c.parquet", e=lists(X[10:]))
    return parts


EMBEDDINGS: dict[str, Writer] = {
    "float32": lambda d: npy(d / "e.npy", X),
    "float64": lambda d: npy(d / "e.npy", X.astype(np.float64)),
    "float16": lambda d: npy(d / "e.npy", X.astype(np.float16)),
    "big-endian": lambda d: npy(d / "e.npy", X.astype(">f4")),
    "fortran": lambda d: npy(d / "e.npy", np.asfortranarray(X)),
    "list": lambda d: parquet(d / "e.parquet", e=lists(X), n=list(range(len(X)))),
    "fixed-size-list": lambda d: parquet(d / "e.parquet", e=lists(X, "fixed")),
    "large-list": lambda d: parquet(d / "e.parquet", e=lists(X.astype(np.float64), "large")),
    "half-float-list": lambda d: parquet(d / "e.parquet", e=lists(X.astype(np.float16))),
    "folder": parquet_parts,
}
"""Every way in which X is accepted."""

NAMES = [f"p{label:03d}" for label in LABELS]

LABEL_FILES: dict[str, Writer] = {
    "int64": lambda d: npy(d / "l.npy", LABELS),
    "int8": lambda d: npy(d / "l.npy", LABELS.astype(np.int8)),
    "uint64": lambda d: npy(d / "l.npy", LABELS.astype(np.uint64) + np.uint64(2**63)),
    "beyond-int32": lambda d: npy(d / "l.npy", LABELS * 2**40 - 2**45),
    "unicode": lambda d: npy(d / "l.npy", np.array(NAMES)),
    "bytes": lambda d: npy(d / "l.npy", np.array(NAMES, "S")),
    "parquet-strings": lambda d: parquet(d / "l.parquet", who=NAMES, x=[0.5] * len(X)),
    "parquet-integers": lambda d: parquet(d / "l.parquet", who=LABELS),
    "parquet-dictionary": lambda d: parquet(
        d / "l.parquet", who=pa.array(NAMES).dictionary_encode()
    ),
    "csv": lambda d: text(d / "l.csv", "\n".join(["who", *NAMES]) + "\n"),
    "text": lambda d: text(d / "l.txt", "\n".join(NAMES) + "\n"),
    "text-crlf-no-end": lambda d: text(d / "l.txt", "\r\n".join(NAMES)),
}
"""Every way in which the labels of X are accepted."""
