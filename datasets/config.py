"""What an ingest is told: which detector, which crop, how many actors. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from facequarry.datasets.disk.errors import BadInput

DetectorName = Literal["dlib-hog", "dlib-mmod", "yunet", "none"]
Alignment = Literal["box", "five-point"]

MODEL_FILES: dict[DetectorName, str] = {
    "dlib-mmod": "mmod_human_face_detector.dat",
    "yunet": "face_detection_yunet_2023mar.onnx",
}
"""Detectors that need a model file, and the name under which its authors publish it."""

WITH_LANDMARKS: tuple[DetectorName, ...] = ("yunet",)
"""Detectors that give five landmarks."""

_MIN_SCORE_DEFAULTS: dict[DetectorName, float] = {"dlib-hog": 0.0, "dlib-mmod": 0.0, "yunet": 0.8}
# dlib's CNN drops what is below 0 itself, YuNet's score is a probability.
_MIN_SCORE_RANGES: dict[DetectorName, tuple[float, float]] = {
    "dlib-hog": (-1.0, 10.0),
    "dlib-mmod": (0.0, 10.0),
    "yunet": (0.0, 1.0),
}

# FaceNet's proportion: a crop of 160 px has a margin of 44 px.
_MARGIN_SHARE = 44 / 160


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestConfig:
    """How photos become faces."""

    detector: DetectorName = "dlib-hog"
    """Face detector. dlib-hog: upright frontal faces, 4 ms a photo of 250 px and more for larger
    ones; dlib-mmod: a CNN, 0.3 s such a photo, 5 s and 1 GB a megapixel; yunet: a small CNN with
    landmarks, 3 ms such a photo, 7 ms a large one; none: the whole photo is the crop (photos that
    are crops already)."""

    detector_model: Path | None = None
    """Model file of dlib-mmod (mmod_human_face_detector.dat) or yunet
    (face_detection_yunet_2023mar.onnx); the other detectors take none."""

    upsample: int = 1
    """How often a photo in which no face was found is doubled in size and searched again (0..2).
    dlib-hog finds faces from 70 px up as they are, dlib-mmod from 80 px (photos of more than 1
    megapixel are shrunk to it, and none is doubled beyond it). yunet first brings the photo's
    longer side to 320 px, or leaves it if shorter, finds faces from about 24 px of those, and
    doubles that size."""

    min_score: float | None = None
    """Lowest score of a face, on the detector's own scale: dlib-hog -1..10, dlib-mmod 0..10, yunet
    0..1. None takes 0 for dlib's detectors and 0.8 for yunet."""

    min_face_px: int = 20
    """Shortest side that the chosen face's box may have, px of the photo; below it: `too_small`."""

    crop_px: int = 160
    """Side of the square crop, px (16..1024)."""

    alignment: Alignment | None = None
    """box: the square around the detector's box; five-point: turned and scaled so that eyes, nose
    and mouth corners come to lie on ArcFace's template, for a detector with landmarks. None takes
    five-point where the detector has landmarks, else box."""

    margin_px: int | None = None
    """Border left around the detector's box, or around the five-point template's square, both sides
    together, px at crop size as in FaceNet; 0 for no border. None takes 44 of 160 in proportion for
    a box, and 0 for five-point (the template has a border of its own) and for the detector
    `none`."""

    max_photo_mpx: int = 64
    """Largest photo that is decoded, megapixels by its header (1..80); above it: `too_large`."""

    max_file_mib: int = 64
    """Largest file that is read, MiB (1..1024); above it: `too_large`."""

    min_photos_per_identity: int = 1
    """Identities with fewer photos in the source are left out (1 or more)."""

    keep: Path | None = None
    """File with one identity a line, or a list of LFW's: only these are looked at."""

    leave_out: Path | None = None
    """File with one identity a line, or a list of LFW's, such as the people of an evaluation set:
    these are not looked at. Commas, tabs and # end a name."""

    identity_meta: Path | None = None
    """VGGFace2's identity_meta.csv: --keep and --leave-out may then give people's names, in any
    spelling (A. J. Cook is AJ_Cook)."""

    boxes: Path | None = None
    """VGGFace2's loose_bb_*.csv: of several faces in a photo the one nearest to its box is taken,
    and a photo without a face in its box is rejected (`away_from_box`). Without a row, or without
    this file, it is the largest. Faces are made with boxes from the first ingest, or without."""

    photos_per_shard: int = 512
    """Photos that make one shard (1..100000): the unit of work, and of what a killed ingest
    loses."""

    actors: int | None = None
    """Detection actors of one CPU each; None takes one for each CPU of the cluster."""

    shard_retries: int = 3
    """How often a shard is tried again after the actor that made it died (0..100)."""

    shard_timeout_s: float | None = None
    """Longest wait for any one shard to be finished, seconds; default: 4 for each of its photos,
    30 with dlib-mmod, and half an hour at least."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            BadInput: a value is out of range; the sentence names field, value and range.
        """
        self._check_detector()
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
                raise BadInput(f"{name} is {value}, expected {low}..{high}")
        if self.margin_px is not None and not 0 <= self.margin_px <= self.crop_px // 2:
            raise BadInput(
                f"margin_px is {self.margin_px}, expected 0..{self.crop_px // 2} "
                f"(half of crop_px {self.crop_px})"
            )
        if self.actors is not None and self.actors < 1:
            raise BadInput(f"actors is {self.actors}, expected 1 or more")
        if self.shard_timeout_s is not None and not 0 < self.shard_timeout_s < 1e7:
            raise BadInput(f"shard_timeout_s is {self.shard_timeout_s}, expected 0..10000000")

    def _check_detector(self) -> None:
        if self.detector not in get_args(DetectorName):
            names = ", ".join(get_args(DetectorName))
            raise BadInput(f"detector is {self.detector!r}, expected one of {names}")
        needed = MODEL_FILES.get(self.detector)
        if needed is not None and self.detector_model is None:
            raise BadInput(
                f"detector_model is None, expected the path of {needed} for detector "
                f"{self.detector}"
            )
        if needed is None and self.detector_model is not None:
            raise BadInput(
                f"detector_model is {self.detector_model}, but detector {self.detector} takes "
                f"none; expected it with: {', '.join(MODEL_FILES)}"
            )
        self._check_min_score()
        if self.alignment not in (None, *get_args(Alignment)):
            raise BadInput(f"alignment is {self.alignment!r}, expected 'box' or 'five-point'")
        if self.alignment == "five-point" and self.detector not in WITH_LANDMARKS:
            raise BadInput(
                f"alignment is 'five-point', but detector {self.detector} gives no landmarks; "
                f"expected 'box', or detector {' or '.join(WITH_LANDMARKS)}"
            )

    def _check_min_score(self) -> None:
        if self.min_score is None:
            return
        if self.detector not in _MIN_SCORE_RANGES:
            raise BadInput(
                f"min_score is {self.min_score}, but detector {self.detector} gives no scores"
            )
        low, high = _MIN_SCORE_RANGES[self.detector]
        if not low <= self.min_score <= high:
            raise BadInput(
                f"min_score is {self.min_score}, expected {low:g}..{high:g} for detector "
                f"{self.detector}"
            )

    def absolute(self) -> IngestConfig:
        """Return the configuration with absolute paths: actors have other working folders."""
        names = ("keep", "leave_out", "identity_meta", "boxes", "detector_model")
        paths = {name: getattr(self, name) for name in names}
        return replace(self, **{name: path and path.resolve() for name, path in paths.items()})

    @property
    def resolved_min_score(self) -> float:
        """The lowest score that is used; 0 for the detector `none`."""
        if self.min_score is not None:
            return float(self.min_score)
        return _MIN_SCORE_DEFAULTS.get(self.detector, 0.0)

    @property
    def resolved_shard_timeout_s(self) -> float:
        """The longest wait that is used, seconds."""
        if self.shard_timeout_s is not None:
            return self.shard_timeout_s
        return max(1800.0, self.photos_per_shard * (30.0 if self.detector == "dlib-mmod" else 4.0))

    @property
    def resolved_alignment(self) -> Alignment:
        """The alignment that is used."""
        if self.alignment is not None:
            return self.alignment
        return "five-point" if self.detector in WITH_LANDMARKS else "box"

    @property
    def resolved_margin_px(self) -> int:
        """The margin that is used, px at crop size."""
        if self.detector == "none":
            return 0
        if self.margin_px is not None:
            return self.margin_px
        return 0 if self.resolved_alignment == "five-point" else round(self.crop_px * _MARGIN_SHARE)


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
            BadInput: a value is out of range.
        """
        for name in ("settle_s", "every_s"):
            if not 0 < getattr(self, name) < 86_400:
                raise BadInput(f"{name} is {getattr(self, name)}, expected 0..86400 seconds")
