"""The columns of faces on disk, spelled once: shards, rejects, identities, and reject reasons."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import pyarrow as pa

from facequarry.datasets.disk.errors import Damaged, Failure
from facequarry.datasets.disk.publish import dump_json

JPEG_QUALITY = 95

# Reading one crop costs a whole row group: with 64 rows no more than decoding it; smaller groups
# make files and scans longer (docs/benchmarks.md).
ROW_GROUP_ROWS = 64

FACE_SCHEMA = pa.schema(
    [
        pa.field("identity", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("box", pa.list_(pa.float32(), 4), nullable=False),
        pa.field("landmarks", pa.list_(pa.float32(), 10)),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("num_faces_in_source", pa.int32(), nullable=False),
        pa.field("source_bytes", pa.int64(), nullable=False),
        pa.field("source_sha256", pa.string(), nullable=False),
    ]
)
"""One row a face. `image` is a JPEG of crop_px x crop_px; `width`, `height`, `box` (x0 y0 x1 y1)
and `landmarks` (five x y pairs) are px of the source as it is shown, its EXIF rotation applied.
`source_bytes` is the size of the source's file, `source_sha256` the digest of its bytes."""

REJECT_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("identity", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("source_bytes", pa.int64(), nullable=False),
        pa.field("source_sha256", pa.string()),
    ]
)
"""One row a photo that gave no face; `reason` is a `Reason`. `source_sha256` is null where the
bytes could not be read: with it a photo whose bytes change is looked at again."""

IDENTITY_SCHEMA = pa.schema(
    [
        pa.field("identity", pa.string(), nullable=False),
        pa.field("identity_index", pa.int32(), nullable=False),
        pa.field("num_faces", pa.int64(), nullable=False),
    ]
)
"""One row an identity with a face; row number and identity_index are the same."""


class Reason(StrEnum):
    """Why a photo gave no face: a closed list."""

    UNREADABLE = "unreadable"
    """The file could not be opened or read, or is no regular file."""
    EMPTY_FILE = "empty_file"
    """Zero bytes."""
    NOT_AN_IMAGE = "not_an_image"
    """The bytes are in none of the known image formats."""
    TRUNCATED = "truncated"
    """An image whose bytes end early."""
    CORRUPT = "corrupt"
    """An image that its decoder refuses."""
    TOO_LARGE = "too_large"
    """More bytes, or by its header more pixels, than the limit; it was not decoded."""
    NO_FACE = "no_face"
    """The detector found no face."""
    AWAY_FROM_BOX = "away_from_box"
    """Faces were found, but none overlaps the box in which the right one is said to be."""
    TOO_SMALL = "too_small"
    """The chosen face is smaller than min_face_px."""
    FAILED = "failed"
    """The detector or the crop failed on this photo; the detail says how."""
    CRASHED = "crashed"
    """The process that looked at the photo died, each time."""


class Rejected(Exception):
    """A photo gives no face; it is caught where the photo is counted."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class SourceChanged(Failure):
    """A source is no longer the one that was listed."""


class CorruptShard(Damaged):
    """A shard's bytes are not those that its manifest names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceOptions:
    """Everything that decides which face and which bytes a photo gives; one set for each root."""

    detector: str
    detector_options: dict[str, int | float | str]
    crop_px: int
    margin_px: int
    alignment: str
    min_face_px: int
    max_photo_mpx: int
    max_file_mib: int
    choice: str
    """Of several faces: `largest`, or `nearest_to_box` where a csv gives boxes."""

    def to_json(self) -> dict[str, Any]:
        """Return the options as the JSON object that manifests hold."""
        return asdict(self) | {"jpeg_quality": JPEG_QUALITY}

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the options."""
        return hashlib.sha256(dump_json(self.to_json()).encode()).hexdigest()
