"""Labels from files: one integer or string for each embedding.

read_labels([Path("L.npy")])            # .npy, .parquet, .csv, or text with one label a line
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.text import printable
from facequarry.jobs.arrays.embeddings import choose_column, load_npy, open_parquet, reading

Labels = NDArray[Any]
"""(N,) integers of any width, or strings."""

_FLAG = "--label-column"


def read_labels(files: Sequence[Path], *, column: str | None = None) -> Labels:
    """Read labels; several files are put one after the other.

    Args:
        files: .npy of shape (N,); .parquet or .csv (with a header line) with a column of integers
            or strings; anything else is text with one label a line. What comes from CSV and text is
            a string, so that `007` and `7` stay two labels.
        column: the column of Parquet or CSV; None takes the only one that fits.

    Raises:
        BadInput: a file is empty, damaged, pickled or of another shape or type, or a label is
            missing.
    """
    parts = [_read(path, column) for path in files]
    kinds = {part.dtype.kind in "iu" for part in parts}
    if len(kinds) > 1:
        names = ", ".join(map(str, files))
        raise BadInput(f"some of the label files hold integers and others strings: {names}")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _read(path: Path, column: str | None) -> Labels:
    if path.suffix not in (".parquet", ".csv") and column is not None:
        raise BadInput(f"{_FLAG} is for Parquet and CSV files, {path} is none")
    match path.suffix:
        case ".npy":
            labels = _from_npy(path)
        case ".parquet":
            labels = _from_parquet(path, column)
        case ".csv":
            labels = _from_csv(path, column)
        case _:
            labels = _from_text(path)
    if not labels.size:
        raise BadInput(f"{path} holds no labels")
    return labels


def _from_npy(path: Path) -> Labels:
    array = load_npy(path)
    if array.ndim != 1:
        raise BadInput(f"{path} has shape {array.shape}, labels have one axis: (N,)")
    if array.dtype.kind not in "iuUS":
        raise BadInput(f"{path} holds {array.dtype}, labels are integers or strings")
    if array.dtype.kind in "US":
        is_empty = np.strings.str_len(np.strings.strip(array)) == 0
        if is_empty.any():
            raise BadInput(f"row {int(is_empty.argmax())} of {path} is an empty label")
    return np.array(array)


def _from_parquet(path: Path, column: str | None) -> Labels:
    with open_parquet(path) as file, reading(path):
        schema = file.schema_arrow
        name = choose_column(path, schema, column, _is_label, _FLAG, "integers or strings")
        values = file.read(columns=[name])[name]
    return _plain(path, name, values)


def _from_csv(path: Path, column: str | None) -> Labels:
    try:
        with pa.csv.open_csv(path) as reader:
            names = reader.schema.names
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path} is no CSV with a header line ({printable(error)})") from error
    schema = pa.schema([(name, pa.string()) for name in names])
    name = choose_column(path, schema, column, _is_label, _FLAG, "labels")
    try:
        table = pa.csv.read_csv(
            path,
            convert_options=pa.csv.ConvertOptions(
                include_columns=[name], column_types=schema, strings_can_be_null=False
            ),
        )
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path} does not parse as CSV ({printable(error)})") from error
    return _plain(path, name, table[name])


def _from_text(path: Path) -> Labels:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is no text in UTF-8; labels are a .npy, .parquet or .csv file, or text with "
            "one label a line"
        ) from error
    if not text:
        raise BadInput(f"{path} is empty")
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    return _strings(path, "line", lines, first=1)


def _plain(path: Path, column: str, values: pa.ChunkedArray) -> Labels:
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy())[0])
        raise BadInput(f"row {row} of column {column!r} of {path} is null; every row has a label")
    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    if pa.types.is_integer(values.type):
        integers: Labels = values.to_numpy()
        return integers
    return _strings(path, f"row of column {column!r}", values.to_pylist(), first=0)


def _strings(path: Path, what: str, labels: list[str], *, first: int) -> Labels:
    for position, label in enumerate(labels):
        if not label.strip():
            raise BadInput(f"{what} {position + first} of {path} is an empty label")
    # NumPy's fixed-width strings would take the longest label's bytes for every row.
    return np.array(labels, np.dtypes.StringDType())


def _is_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(is_text or pa.types.is_integer(kind))
