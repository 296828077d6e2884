"""What an ingest is told: which detector, which crop, how many actors. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DetectorName = Literal["dlib-hog", "none"]

# FaceNet's proportion: a crop of 160 px has a margin of 44 px.
_MARGIN_SHARE = 44 / 160


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """How photos become faces."""

    detector: DetectorName = "dlib-hog"
    """Face detector; `none` takes the whole photo as the crop (photos that are crops already)."""

    upsample: int = 1
    """dlib-hog: how often a photo in which no face was found is doubled in size and searched again.
    HOG finds faces from 70 px up as they are, and from 40 px up after one doubling (0..2)."""

    min_face_px: int = 20
    """Shortest side that the chosen face's box may have, px of the photo; below it: `too_small`."""

    crop_px: int = 160
    """Side of the square crop, px (16..1024)."""

    margin_px: int | None = None
    """Border left around the detector's box, both sides together, px at crop size as in FaceNet; 0
    for no border. None takes 44 of 160 in proportion, and 0 for the detector `none`."""

    max_photo_mpx: int = 64
    """Largest photo that is decoded, megapixels by its header (1..80); above it: `too_large`."""

    max_file_mib: int = 64
    """Largest file that is read, MiB (1..1024); above it: `too_large`."""

    min_photos_per_identity: int = 1
    """Identities with fewer photos in the source are left out."""

    keep: Path | None = None
    """File with one identity a line: only these are looked at."""

    leave_out: Path | None = None
    """File with one identity a line, such as the people of an evaluation set: these are not."""

    identity_meta: Path | None = None
    """VGGFace2's identity_meta.csv: `keep` and `leave_out` may then give people's names."""

    boxes: Path | None = None
    """VGGFace2's loose_bb_*.csv: of several faces in a photo the one nearest to its box is taken.
    Without a row, or without this file, it is the largest."""

    photos_per_shard: int = 512
    """Photos that make one shard: the unit of work, and of what a killed ingest loses."""

    actors: int | None = None
    """Detection actors of one CPU each; default: one for each CPU of the cluster."""

    shard_retries: int = 3
    """How often a shard is tried again after the actor that made it died."""

    shard_timeout_s: float = 1800.0
    """Longest wait for any one shard to be finished, seconds."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: a value is out of range; the sentence names field, value and range.
        """
        if self.detector not in ("dlib-hog", "none"):
            raise ValueError(f"detector is {self.detector!r}, expected 'dlib-hog' or 'none'")
        for name, low, high in (
            ("upsample", 0, 2),
            ("min_face_px", 1, 4096),
            ("crop_px", 16, 1024),
            ("max_photo_mpx", 1, 80),
            ("max_file_mib", 1, 1024),
            ("min_photos_per_identity", 1, 1_000_000),
            ("photos_per_shard", 1, 100_000),
            ("shard_retries", 0, 100),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, expected {low}..{high}")
        if self.margin_px is not None and not 0 <= self.margin_px <= self.crop_px // 2:
            raise ValueError(
                f"margin_px is {self.margin_px}, expected 0..{self.crop_px // 2} "
                f"(half of crop_px {self.crop_px})"
            )
        if self.actors is not None and self.actors < 1:
            raise ValueError(f"actors is {self.actors}, expected 1 or more")
        if not self.shard_timeout_s > 0:
            raise ValueError(f"shard_timeout_s is {self.shard_timeout_s}, expected more than 0")

    @property
    def resolved_margin_px(self) -> int:
        """The margin that is used, px at crop size."""
        if self.detector == "none":
            return 0
        return round(self.crop_px * _MARGIN_SHARE) if self.margin_px is None else self.margin_px


@dataclass(frozen=True, kw_only=True, slots=True)
class FollowConfig:
    """How a folder is watched for new photos."""

    settle_s: float = 10.0
    """A photo is taken when its size and time stood still for so long, seconds."""

    every_s: float = 10.0
    """Seconds between two looks at the folder; each publishes at most one snapshot."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: a value is out of range.
        """
        for name in ("settle_s", "every_s"):
            if not 0 < getattr(self, name) < 86_400:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0..86400 seconds")
