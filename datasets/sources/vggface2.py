"""VGGFace2's csv files: the faces' boxes and the identities' names.

    photos, num_without_box = with_boxes(photos, read_boxes(Path("loose_bb_train.csv")))
    missing_photos(photos, read_identity_meta(Path("identity_meta.csv")))

Several spellings of both are about: with and without a header line, CRLF, spaces after commas,
doubled quotes. All read the same; a file that cannot be read whole is refused, with its line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.text import quoted, read_text
from facequarry.datasets.sources.csv_rows import OUTER, CsvRows, split_header

BOXES_SCHEMA = pa.schema(
    [
        pa.field("photo", pa.string(), nullable=False),
        pa.field("box", pa.list_(pa.float32(), 4), nullable=False),
    ]
)
"""One row a photo, such as `n000002/0001_01`; its box is x0 y0 x1 y1, px."""

IDENTITY_META_SCHEMA = pa.schema(
    [
        pa.field("identity", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("num_photos", pa.int32(), nullable=False),
        pa.field("is_train", pa.bool_(), nullable=False),
        pa.field("gender", pa.string(), nullable=False),
    ]
)
"""One row an identity, in the order of the file."""

_BOX_COLUMNS = ("NAME_ID", "X", "Y", "W", "H")
_META_COLUMNS = ("CLASS_ID", "NAME", "SAMPLE_NUM", "FLAG", "GENDER")
_BOX_EXPECTED = 'a box csv with NAME_ID,X,Y,W,H such as "n000002/0001_01",161,140,224,324'
_META_EXPECTED = "an identity csv with Class_ID,Name,Sample_Num,Flag,Gender"


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingPhotos:
    """How far a listing falls short of identity_meta.csv."""

    num_short: int
    """Identities with fewer photos than identity_meta.csv says, but some."""
    num_photos_missing: int
    """Photos that those lack."""
    num_absent_train: int
    """Training identities without any photo."""
    num_absent_test: int
    """Test identities without any photo: all 500 where only `train/` is read."""
    num_unknown: int
    """Identities that identity_meta.csv does not name."""


def read_boxes(path: Path) -> pa.Table:
    """Read a box csv, VGGFace2's `loose_bb_train.csv` and `loose_bb_test.csv`.

    With a header line the columns may come in any order, among others; without one they are
    VGGFace2's. A row that is repeated counts once.

    Returns:
        A table of `BOXES_SCHEMA`, in the order of the file, each photo once.

    Raises:
        NotFound: there is no such file.
        BadInput: it is not UTF-8 text, lacks columns or rows, or a row has another number of
            fields, no finite numbers, an empty box or another box than an earlier row of its photo.
    """
    text = read_text(path, expected=_BOX_EXPECTED)
    rows = CsvRows(path, text, _BOX_COLUMNS, expected=_BOX_EXPECTED)
    # The listing writes a % as %25, so that every name leads back to its file.
    photos = pc.replace_substring(rows["NAME_ID"], "%", "%25")
    rows.refuse_where(pc.equal(photos, ""), "names no photo")
    x, y, width, height = (rows.numbers(name) for name in "XYWH")
    is_empty = (width <= 0) | (height <= 0)
    rows.refuse_where(is_empty, "has a box without area, expected W > 0 and H > 0")
    with np.errstate(over="ignore"):
        boxes = np.stack([x, y, x + width, y + height], axis=1).astype(np.float32)
    rows.refuse_where(~np.isfinite(boxes).all(axis=1), "has a box too large for float32")
    # A row that is repeated is harmless; two boxes of one photo are not.
    first = _first_rows(photos)
    is_other = (boxes != boxes[first]).any(axis=1)
    rows.refuse_where(is_other, "has another box than an earlier row of its photo")
    kept = np.flatnonzero(first == np.arange(len(first)))
    box = pa.FixedSizeListArray.from_arrays(pa.array(boxes[kept].ravel()), 4)
    return pa.table([photos.take(pa.array(kept)), box], schema=BOXES_SCHEMA)


def with_boxes(
    photos: pa.Table, boxes: pa.Table, *, may_all_lack: bool = False
) -> tuple[pa.Table, int]:
    """Give each photo the box of its row in the csv.

    Args:
        photos: a listing; only `source` is looked at. A `box` column is replaced.
        boxes: what `read_boxes` returned. A name in it matches the photo of that source, else the
            photos of that source without their suffix.
        may_all_lack: no error where none has a row; more photos are to come.

    Returns:
        The listing with its `box` column, null where the csv has no row; and how many those are.

    Raises:
        BadInput: there are photos and none has a row.
    """
    sources, names = photos["source"].combine_chunks(), boxes["photo"].combine_chunks()
    stems = pc.replace_substring_regex(sources, r"\.[^./]*$", "")
    row = pc.coalesce(pc.index_in(sources, names), pc.index_in(stems, names))
    if len(row) and row.null_count == len(row) and not may_all_lack:
        raise BadInput(
            f"none of the {len(row)} photos has a row in the box csv: the photos are named such "
            f"as {quoted(sources[0].as_py())}, the rows such as "
            f"{quoted(names[0].as_py()) if len(names) else 'none at all'}"
        )
    box = boxes["box"].combine_chunks().take(row)
    field = pa.field("box", box.type)
    if "box" not in photos.column_names:
        return photos.append_column(field, box), row.null_count
    return photos.set_column(photos.column_names.index("box"), field, box), row.null_count


def read_identity_meta(path: Path) -> pa.Table:
    """Read VGGFace2's `identity_meta.csv`, in which Flag 1 is `train/` and 0 is `test/`.

    Returns:
        A table of `IDENTITY_META_SCHEMA`, each identity once, names without quotes around them.

    Raises:
        NotFound: there is no such file.
        BadInput: it is not UTF-8 text, lacks columns or rows, or a row has another number of
            fields, a count or flag that is none, or differs from an earlier row of its identity.
    """
    text = read_text(path, expected=_META_EXPECTED)
    header, body, num_lines = split_header(path, text, _META_COLUMNS, expected=_META_EXPECTED)
    identities: dict[str, tuple[str, str, int, bool, str]] = {}
    for where, fields in _numbered_rows(path, body, first_line=num_lines + 1):
        identity = _identity(fields, header or list(_META_COLUMNS), where)
        if identities.setdefault(identity[0], identity) != identity:
            raise BadInput(f"{where} differs from an earlier row of {quoted(identity[0])}")
    if not identities:
        raise BadInput(f"{path} has no rows, expected {_META_EXPECTED}")
    columns = zip(*identities.values(), strict=True)
    types = IDENTITY_META_SCHEMA.types
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, types, strict=True)]
    return pa.table(arrays, schema=IDENTITY_META_SCHEMA)


def missing_photos(photos: pa.Table, meta: pa.Table) -> MissingPhotos:
    """Count what a listing lacks by identity_meta.csv; only `identity` is looked at."""
    listed = photos.group_by("identity").aggregate([([], "count_all")])
    at = pc.index_in(meta["identity"], listed["identity"].combine_chunks())
    num_listed = pc.fill_null(pc.take(listed["count_all"], at), 0).to_numpy()
    lacking = np.maximum(meta["num_photos"].to_numpy() - num_listed, 0)
    is_absent, is_train = num_listed == 0, meta["is_train"].to_numpy()
    is_short = (lacking > 0) & ~is_absent
    return MissingPhotos(
        num_short=int(is_short.sum()),
        num_photos_missing=int(lacking[is_short].sum()),
        num_absent_train=int((is_absent & is_train).sum()),
        num_absent_test=int((is_absent & ~is_train).sum()),
        num_unknown=listed.num_rows - int((~is_absent).sum()),
    )


def _numbered_rows(path: Path, text: str, *, first_line: int) -> Iterator[tuple[str, list[str]]]:
    # Not Arrow's parser: a name in quotes may follow a space and hold a comma. Line by line, so
    # that a quote that is not closed spoils its own line alone.
    for line, row in enumerate(text.split("\n"), start=first_line):
        where = f"{path} line {line}"
        try:
            fields = next(csv.reader([row], skipinitialspace=True), [])
        except csv.Error as error:
            raise BadInput(f"{where} cannot be read as csv ({error}): {quoted(row)}") from error
        if row.strip():
            yield where, fields


def _identity(fields: list[str], columns: list[str], where: str) -> tuple[str, str, int, bool, str]:
    if len(fields) != len(columns):
        raise BadInput(
            f"{where} has {len(fields)} fields, expected {len(columns)}: "
            f"{quoted(','.join(fields))}; put a name that holds a comma in quotes"
        )
    row = dict(zip(columns, (field.strip(OUTER) for field in fields), strict=True))
    identity, name, num_photos, flag, gender = (row[column] for column in _META_COLUMNS)
    if not identity:
        raise BadInput(f"{where} names no identity: {quoted(','.join(fields))}")
    if not re.fullmatch("[0-9]{1,9}", num_photos):
        raise BadInput(f"{where} has no count as Sample_Num: {quoted(num_photos)}")
    if flag not in ("0", "1"):
        raise BadInput(f"{where} has no 1 (train) or 0 (test) as Flag: {quoted(flag)}")
    return identity, name, int(num_photos), flag == "1", gender


def _first_rows(names: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return, for each row, the first row of the same name."""
    encoded = names.combine_chunks().dictionary_encode()
    group = encoded.indices.to_numpy()
    row = np.arange(len(group))
    first = np.empty(len(encoded.dictionary), np.int64)
    first[group[::-1]] = row[::-1]  # of several rows the last one written stays
    of_row: NDArray[np.int64] = first[group]
    return of_row
