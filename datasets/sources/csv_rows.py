"""Rows of a csv file as columns of text, each traceable to its line.

    rows = CsvRows(path, text, ("NAME_ID", "X", "Y", "W", "H"), expected="a box csv")
    rows.refuse_where(pc.equal(rows["NAME_ID"], ""), "names no photo")

Made for millions of rows: Arrow parses them, and lines are counted only for the sentence of a
refusal.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray
from pyarrow import csv as arrow_csv

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.text import quoted

OUTER = ' \t"'
"""What surrounds a field in some spellings and is no part of it."""

_MAX_HEADER_CHARS = 10_000


class CsvRows:
    """The wanted columns of a csv file's rows; blank lines are no rows."""

    def __init__(self, path: Path, text: str, names: Sequence[str], *, expected: str) -> None:
        r"""Parse `text`, whose lines end in `\n`.

        Args:
            path: the file, for refusals.
            text: what it holds.
            names: the wanted columns in upper case: those of the header line, whatever its order,
                else the columns in this order and no others.
            expected: what the file should hold, for refusals.

        Raises:
            BadInput: columns or rows lack, a row has another number of fields, or a quote is
                not closed.
        """
        self._path = path
        header, self._body, self._num_lines_before = split_header(
            path, text, names, expected=expected
        )
        columns = header or list(names)
        table = self._parse(len(columns))
        if not table.num_rows:
            raise BadInput(f"{path} has no rows, expected {expected}")
        self._columns = {
            name: pc.utf8_trim(table.column(columns.index(name)), OUTER) for name in names
        }
        if any(pc.any(pc.match_substring(self[name], "\n")).as_py() for name in names):
            self._refuse_open_quote()
            raise BadInput(f"{path} has a field that holds a line break, expected {expected}")

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        """Return one column as text, without outer spaces and quotes."""
        return self._columns[name]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return one column as finite numbers.

        Raises:
            BadInput: a field is no number or not finite.
        """
        column = self[name]
        try:
            values: NDArray[np.float64] = pc.cast(column, pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            self.refuse(_first_no_number(column), f"has no number as {name}", column)
        for row in np.flatnonzero(~np.isfinite(values))[:1]:
            self.refuse(int(row), f"has no finite number as {name}", column)
        return values

    def refuse_where(self, is_bad: ArrayLike, problem: str) -> None:
        """Refuse the line of the first row that is bad, if any is."""
        for row in np.flatnonzero(np.asarray(is_bad))[:1]:
            self.refuse(int(row), problem)

    def refuse(self, row: int, problem: str, found: pa.ChunkedArray | None = None) -> NoReturn:
        """Refuse the line of one row."""
        line, text = self._line_of(row)
        shown = text if found is None else found[row].as_py()
        raise BadInput(f"{self._path} line {line} {problem}: {quoted(shown)}")

    def _parse(self, num_columns: int) -> pa.Table:
        blank: list[int] = []
        bad: list[tuple[int, int]] = []

        def on_odd_row(row: Any) -> str:
            if not row.text.strip():
                blank.append(row.number)
                return "skip"
            bad.append((row.number - 1 - len(blank), row.actual_columns))
            return "error"

        columns = [str(index) for index in range(num_columns)]
        if not self._body.strip():
            return pa.table({name: pa.array([], pa.string()) for name in columns})
        try:
            return arrow_csv.read_csv(
                pa.BufferReader(self._body.encode()),
                # Only a single thread numbers the rows.
                arrow_csv.ReadOptions(use_threads=False, column_names=columns),
                arrow_csv.ParseOptions(invalid_row_handler=on_odd_row),
                arrow_csv.ConvertOptions(column_types={name: pa.string() for name in columns}),
            )
        except pa.ArrowInvalid as error:
            self._refuse_open_quote()
            for row, num_fields in bad:
                self.refuse(row, f"has {num_fields} fields, expected {num_columns}")
            raise BadInput(f"{self._path} cannot be read as csv: {quoted(str(error))}") from error

    def _refuse_open_quote(self) -> None:
        for index, line in enumerate(self._body.split("\n"), start=1 + self._num_lines_before):
            if line.count('"') % 2:
                raise BadInput(
                    f"{self._path} line {index} has a quote that is not closed: {quoted(line)}"
                )

    def _line_of(self, row: int) -> tuple[int, str]:
        lines = self._body.split("\n")
        index = [index for index, line in enumerate(lines) if line.strip()][row]
        return index + 1 + self._num_lines_before, lines[index]


def split_header(
    path: Path, text: str, names: Sequence[str], *, expected: str
) -> tuple[list[str] | None, str, int]:
    """Take the header line off, if there is one: a first line that names any of `names`.

    Returns:
        The columns' names in upper case, None without a header line; the text of the rows; and
        the number of lines before it.

    Raises:
        BadInput: the header lacks one of `names`, or names one twice.
    """
    first, _, rest = text.lstrip().partition("\n")
    fields = next(csv.reader([first[:_MAX_HEADER_CHARS]], skipinitialspace=True), [])
    columns = [field.strip(OUTER).upper() for field in fields]
    if not set(columns) & set(names):
        return None, text, 0
    line = text[: len(text) - len(text.lstrip())].count("\n") + 1
    for name in names:
        if columns.count(name) != 1:
            problem = "lacks" if name not in columns else "repeats"
            raise BadInput(
                f"{path} line {line} {problem} the column {name}: {quoted(first)}, "
                f"expected {expected}"
            )
    return columns, rest, line


def _first_no_number(column: pa.ChunkedArray) -> int:
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pc.cast(column.slice(low, middle - low), pa.float64())
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low
