"""Embeddings and labels from files: NumPy arrays, Parquet columns, CSV columns, lines of text.

Embeddings come back as one (N, D) float32 array, memory-mapped where the file holds just that;
anything else is converted once, piece by piece. Nothing is unpickled.

    embeddings = read_embeddings([Path("E.npy")])
    labels = read_labels([Path("L.npy")])
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.disk.parquet import reading_parquet
from facequarry.datasets.disk.publish import sha256_file
from facequarry.datasets.disk.text import quoted

Progress = Callable[[int, int], None]
"""Takes the rows that are done, and all of them."""

_PIECE_ROWS = 1 << 16
_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """The rows of one file."""

    path: Path
    rows: int
    dimension: int
    array: NDArray[np.floating[Any]] | None
    """The memory-mapped array of a .npy file; None for Parquet."""
    column: str | None
    """The column of a Parquet file; None for .npy."""

    def parts(self) -> Iterator[NDArray[np.floating[Any]]]:
        """Yield the rows in order, some at a time."""
        if self.array is None:
            yield from _column_parts(self.path, str(self.column), self.dimension)
            return
        for start in range(0, self.rows, _PIECE_ROWS):
            yield self.array[start : start + _PIECE_ROWS]


def files_of(paths: Sequence[Path]) -> list[Path]:
    """Return the files that are meant: a folder stands for its Parquet files, by name.

    Raises:
        NotFound: a path does not exist.
        BadInput: a folder holds no Parquet file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise NotFound(f"there is no {path}")
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(path.rglob("*.parquet"))
        if not inside:
            raise BadInput(f"{path} holds no .parquet file")
        files += inside
    return files


def sha256_of(files: Sequence[Path]) -> str:
    """Return the hex SHA-256 of one file's bytes, or over those of several in order."""
    digests = [sha256_file(path) for path in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{digest}\n" for digest in digests).encode()).hexdigest()


def read_embeddings(
    files: Sequence[Path],
    *,
    column: str | None = None,
    normalise: bool = False,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Read embeddings.

    Args:
        files: .npy files of shape (N, D), or Parquet files with a list column; several are put one
            after the other.
        column: the Parquet column; None takes the only one of lists of floats.
        normalise: bring every row to length 1, in float64.
        progress: told of the rows that are read, where they are read at all.

    Returns:
        (N, D) float32, read-only where it is the mapped file itself. Whether rows are finite and of
        unit length is for `mine` to say.

    Raises:
        BadInput: a file is empty, damaged, pickled or of another shape or type.
    """
    opened = [_open(path, column) for path in files]
    pieces = [piece for piece in opened if piece.rows]
    if not pieces:
        raise BadInput(f"{opened[0].path} holds no rows")
    first = pieces[0]
    for piece in pieces:
        if piece.dimension != first.dimension:
            raise BadInput(
                f"{piece.path} has embeddings of {piece.dimension} values, {first.path} of "
                f"{first.dimension}"
            )
    total = sum(piece.rows for piece in pieces)
    if not first.dimension:
        raise BadInput(f"{first.path} holds embeddings of no value: its first row is empty")
    if len(pieces) == 1 and first.array is not None and not normalise:
        array = first.array
        if array.dtype == np.float32 and array.flags.c_contiguous and array.dtype.isnative:
            return array
    rows = np.empty((total, first.dimension), np.float32)
    done = 0
    for piece in pieces:
        for part in piece.parts():
            with np.errstate(over="ignore"):  # infinity is reported by mine, with its row
                rows[done : done + len(part)] = _unit(part, done) if normalise else part
            done += len(part)
            if progress is not None:
                progress(done, total)
    return rows


def _unit(part: NDArray[np.floating[Any]], first_row: int) -> NDArray[np.float64]:
    values = part.astype(np.float64)
    with np.errstate(over="ignore"):
        norms = np.sqrt(np.einsum("nd,nd->n", values, values))
    zero = np.flatnonzero(norms == 0)
    if zero.size:
        raise BadInput(
            f"row {first_row + zero[0]} of the embeddings is all zeros, which no normalising "
            "brings to length 1; leave such rows out"
        )
    with np.errstate(invalid="ignore"):
        unit: NDArray[np.float64] = values / norms[:, None]
    return unit


def load_npy(path: Path) -> NDArray[Any]:
    """Map a .npy file.

    Raises:
        BadInput: it is none, is cut short, is empty or holds pickled objects.
    """
    with path.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if not magic:
        raise BadInput(f"{path} is empty")
    if magic != _MAGIC:
        raise BadInput(f"{path} is no .npy file; write one with numpy.save")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        if "object" in str(error):
            raise BadInput(
                f"{path} holds pickled objects, which are never loaded; save plain numbers or "
                "strings with numpy.save"
            ) from error
        if "empty file" in str(error):  # so NumPy says where an array has no elements
            raise BadInput(f"{path} holds no rows") from error
        raise BadInput(f"{path} is no whole .npy file ({_brief(error)})") from error
    return array


def _open(path: Path, column: str | None) -> Piece:
    if path.suffix == ".parquet":
        return _open_parquet(path, column)
    if path.suffix != ".npy":
        raise BadInput(
            f"{path} is no .npy and no .parquet file; save the embeddings with numpy.save"
        )
    if column is not None:
        raise BadInput(f"--column is for Parquet files, {path} is none")
    array = load_npy(path)
    if array.ndim != 2:
        raise BadInput(f"{path} has shape {array.shape}, embeddings have two axes: (N, D)")
    if array.dtype.kind != "f":
        raise BadInput(f"{path} holds {array.dtype}, embeddings are floating-point")
    return Piece(
        path=path,
        rows=array.shape[0],
        dimension=array.shape[1],
        array=array,
        column=None,
    )


def reading(path: Path) -> AbstractContextManager[None]:
    """Refuse a file that is no whole Parquet file, whenever in the block that shows."""
    return reading_parquet(path, "write it again")


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file.

    Raises:
        Damaged: it is none, or damaged.
    """
    with reading(path):
        return pq.ParquetFile(path, memory_map=True)


def _open_parquet(path: Path, column: str | None) -> Piece:
    with open_parquet(path) as file, reading(path):
        schema, rows = file.schema_arrow, file.metadata.num_rows
        name = choose_column(path, schema, column, _is_embedding, "--column", "lists of floats")
        first = next(file.iter_batches(batch_size=1, columns=[name]), None)
        sizes = [] if first is None else first.column(0).value_lengths().to_pylist()
        kind = schema.field(name).type
    dimension = sizes[0] if sizes and sizes[0] is not None else getattr(kind, "list_size", 0)
    return Piece(
        path=path,
        rows=rows,
        dimension=dimension,
        array=None,
        column=name,
    )


def choose_column(
    path: Path,
    schema: pa.Schema,
    wanted: str | None,
    fits: Callable[[pa.DataType], bool],
    flag: str,
    what: str,
) -> str:
    """Return the column that is meant.

    Args:
        path: of the file, for the sentence of an error.
        schema: of the file.
        wanted: the column that was asked for; None takes the only one that fits.
        fits: says whether a column of this type can be meant.
        flag: with which a column is asked for.
        what: such columns hold.

    Raises:
        BadInput: there is none, or several, or the one that was asked for does not fit.
    """
    if wanted is None:
        fitting = [str(field.name) for field in schema if fits(field.type)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = ", ".join(fitting)
            raise BadInput(f"{path} has several columns of {what} ({names}); name one by {flag}")
        raise BadInput(f"{path} has no column of {what}; its columns are {_columns(schema)}")
    if schema.get_field_index(wanted) < 0:
        raise BadInput(f"{path} has no column {wanted!r}; its columns are {_columns(schema)}")
    if not fits(schema.field(wanted).type):
        raise BadInput(
            f"column {wanted!r} of {path} is {schema.field(wanted).type}, expected {what}"
        )
    return wanted


def _column_parts(path: Path, column: str, dimension: int) -> Iterator[NDArray[np.floating[Any]]]:
    done = 0
    with open_parquet(path) as file, reading(path):
        for batch in file.iter_batches(batch_size=_PIECE_ROWS, columns=[column]):
            rows = batch.column(0)
            yield _matrix(path, column, rows, dimension, done)
            done += len(rows)


def _matrix(
    path: Path, column: str, rows: pa.Array, dimension: int, first_row: int
) -> NDArray[np.floating[Any]]:
    sizes = rows.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(sizes != dimension)
    if bad.size:
        size = sizes[bad[0]]
        found = "null" if size < 0 else f"a list of {size} values"
        raise BadInput(
            f"row {first_row + bad[0]} of column {column!r} of {path} is {found}, expected "
            f"{dimension} values"
        )
    values = rows.flatten()
    if values.null_count:
        row = first_row + int(np.flatnonzero(values.is_null().to_numpy(False))[0]) // dimension
        raise BadInput(f"row {row} of column {column!r} of {path} holds a null")
    matrix: NDArray[np.floating[Any]] = values.to_numpy(zero_copy_only=False)
    return matrix.reshape(-1, dimension)


def _is_embedding(kind: pa.DataType) -> bool:
    is_list = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    return bool(is_list and pa.types.is_floating(kind.value_type))


def _columns(schema: pa.Schema) -> str:
    # A file that is something else has the oddest of names.
    names = [name if name.isprintable() else quoted(name) for name in schema.names]
    kinds = [field.type for field in schema]
    return ", ".join(f"{n} ({k})" for n, k in zip(names, kinds, strict=True)) or "none"


def _brief(error: BaseException) -> str:
    return str(error).split("\n")[0].rstrip(".")
