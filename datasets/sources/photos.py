"""Photos before anyone looks at them: a row each, and where to read their bytes.

A listing is an Arrow table, because VGGFace2 has 3.3 million photos: as Python objects they would
take a gigabyte. A photo is named by its path below the identity folders. Names are bytes on disk
and text in Parquet: a byte that is not UTF-8 is written as `%FF`, and `%` itself as `%25`, so that
every name leads back to its file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote_to_bytes

import pyarrow as pa

OnListing = Callable[[float], None]
"""Takes the share of a source that is listed, 0..1."""

_ROWS_AT_ONCE = 50_000

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

LISTING_SCHEMA = pa.schema(
    [
        pa.field("identity", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("offset_bytes", pa.int64(), nullable=False),
        pa.field("modified_ns", pa.int64(), nullable=False),
        pa.field("box", pa.list_(pa.float32(), 4)),
    ]
)
"""One row a photo, sorted by identity and source, each source once."""


@dataclass(frozen=True, slots=True, order=True)
class Photo:
    """One photo of one identity; photos sort by identity, then source."""

    identity: str
    source: str
    """`<identity>/<name>`, POSIX separators; the same from a folder and from an archive of it."""
    size_bytes: int
    """Size of its file at listing; part of a shard's digest."""
    offset_bytes: int = 0
    """Where its bytes begin in an archive, as unpacked from gzip; 0 in a folder."""
    box: tuple[float, float, float, float] | None = None
    """Where the right face is, x0 y0 x1 y1 px; None where nobody said."""
    retried_after: int | None = None
    """The snapshot that holds it as a reject, where its bytes changed since."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds."""

    photos: pa.Table
    """The photos to look at: `LISTING_SCHEMA`."""
    left_out: dict[str, int]
    """What is not looked at, by reason; reasons without any are absent."""
    found: str
    """What was found instead, for the error where there are no photos."""
    notes: dict[str, int] = field(default_factory=dict)
    """What else a person should know about it, counted."""
    everything: pa.Table | None = None
    """All photos of the source, where `photos` are only those that are wanted."""

    def __len__(self) -> int:
        return int(self.photos.num_rows)


class Source(Protocol):
    """Where photos come from; it pickles, so that actors can read from it."""

    @property
    def path(self) -> Path:
        """What the user named."""

    def scan(self, on_listing: OnListing | None = None) -> Listing:
        """List every photo.

        Args:
            on_listing: told how far it is.

        Raises:
            BadInput, OSError: the source cannot be listed; the sentence says why.
        """

    def read(self, photo: Photo, *, max_bytes: int) -> bytes:
        """Read one photo's file.

        Raises:
            Rejected: it is unreadable, empty, larger than `max_bytes` or no regular file.
        """

    def check(self) -> None:
        """See that the source is still the one that was listed; a folder may always change.

        Raises:
            SourceChanged: it is another.
        """


class ListingBuilder:
    """Gathers photos into a listing table, a block at a time: Python objects live only as long."""

    def __init__(self) -> None:
        self._blocks = [LISTING_SCHEMA.empty_table()]
        self._rows: list[tuple[str, str, int, int, int]] = []

    def add(
        self,
        identity: str,
        name: str,
        size_bytes: int,
        *,
        offset_bytes: int = 0,
        modified_ns: int = 0,
    ) -> None:
        """Add the photo `name` of an identity; names as `name_of` gives them."""
        self._rows.append((identity, f"{identity}/{name}", size_bytes, offset_bytes, modified_ns))
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()

    def table(self) -> pa.Table:
        """Return what was added, sorted by identity and source, then by offset."""
        self._flush()
        by = ("identity", "source", "offset_bytes")
        table = pa.concat_tables(self._blocks).sort_by([(name, "ascending") for name in by])
        return table.combine_chunks()

    def _flush(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            columns.append([None] * len(self._rows))
            self._blocks.append(pa.table(columns, schema=LISTING_SCHEMA))
            self._rows.clear()


def photos_of(table: pa.Table) -> Iterator[Photo]:
    """Yield the rows of a listing table, with `retried_after` where it has that column."""
    for row in table.drop_columns("modified_ns").to_pylist():
        box = row.pop("box")
        yield Photo(**row, box=None if box is None else tuple(box))


def counted(left_out: Mapping[str, int]) -> dict[str, int]:
    """Return the reasons that have a count."""
    return {reason: count for reason, count in left_out.items() if count}


def is_photo_name(name: str) -> bool:
    """Say whether a file name is that of an image; hidden names are not."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def name_of(path: str) -> str:
    """Return a relative path as the text that names it in Parquet."""
    text = path.replace("%", "%25")
    return "".join(
        # Python keeps a byte that is not UTF-8 as a lone surrogate U+DC80..U+DCFF.
        f"%{ord(char) - 0xDC00:02X}" if 0xDC80 <= ord(char) <= 0xDCFF else char
        for char in text
    )


def path_of(name: str) -> str:
    """Return the relative path that `name_of` named."""
    return os.fsdecode(unquote_to_bytes(name))
