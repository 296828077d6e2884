"""Which faces a photo has and which of them is meant.

A detector is a class with one method: `WholePhoto` here, dlib's in `dlib_detectors.py`, YuNet in
`yunet.py`; `make_detector` makes the one that a config names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.decode import RgbImage


@dataclass(frozen=True, slots=True)
class Detection:
    """One face in a photo."""

    box: NDArray[np.float32]
    """(4,) float32, x0 y0 x1 y1, px; may reach over the photo's border."""
    score: float
    """The detector's own confidence, higher is surer; scales differ between detectors."""
    landmarks: NDArray[np.float32] | None = None
    """(10,) float32, five x y pairs, px: eye, eye, nose, mouth corner, mouth corner, of each pair
    the one that is left in the picture first; None where the detector gives none."""

    @property
    def width(self) -> float:
        """Width of the box, px."""
        return float(self.box[2] - self.box[0])

    @property
    def height(self) -> float:
        """Height of the box, px."""
        return float(self.box[3] - self.box[1])


class Detector(Protocol):
    """Finds faces; the same photo gives the same faces in every process."""

    @property
    def name(self) -> str:
        """The name in manifests and on the command line."""

    @property
    def options(self) -> dict[str, int | float | str]:
        """What, besides the name, decides what is found; recorded in manifests."""

    def detect(self, image: RgbImage) -> list[Detection]:
        """Find the faces of an (H, W, 3) uint8 RGB photo, in any order."""


class WholePhoto:
    """Takes the whole photo for the face, for photos that are crops already."""

    name = "none"

    def __init__(self) -> None:
        self.options: dict[str, int | float | str] = {}

    def detect(self, image: RgbImage) -> list[Detection]:
        """Return one face: the photo."""
        height, width = image.shape[:2]
        return [Detection(np.array((0, 0, width, height), np.float32), 1.0)]


def make_detector(config: IngestConfig) -> Detector:
    """Make the detector that `config` names.

    Raises:
        FileNotFoundError: its model file does not exist.
        ValueError: the model file is not one of this detector, or what it needs is not installed.
    """
    match config.detector:
        case "dlib-hog":
            from facequarry.datasets.detection.dlib_detectors import DlibHog

            return DlibHog(config.upsample, config.resolved_min_score)
        case "dlib-mmod":
            from facequarry.datasets.detection.dlib_detectors import DlibMmod

            return DlibMmod(_model_of(config), config.upsample, config.resolved_min_score)
        case "yunet":
            from facequarry.datasets.detection.yunet import YuNet

            return YuNet(_model_of(config), config.upsample, config.resolved_min_score)
        case "none":
            return WholePhoto()


def choose(
    detections: Sequence[Detection], given_box: NDArray[np.float32] | None = None
) -> Detection | None:
    """Choose the face that a photo is about.

    Args:
        detections: the photo's faces.
        given_box: (4,) float32, x0 y0 x1 y1, px, where the right face is said to be, or None.

    Returns:
        Without a box the largest face. With one, of the faces that overlap it the one whose centre
        is nearest to the box's; ties go to the larger overlap, the higher score, the upper left.
        None where there is no such face: one that lies beside the box is another person's.
    """
    if given_box is None:
        return largest(detections) if detections else None
    near = [face for face in detections if _overlap(face.box, given_box) > 0]
    return min(
        near,
        key=lambda face: (
            _centre_d2(face.box, given_box),
            -_overlap(face.box, given_box),
            -face.score,
            face.box[1],
            face.box[0],
        ),
        default=None,
    )


def largest(detections: Sequence[Detection]) -> Detection:
    """Return the face with the largest box; ties go to the higher score, then to the upper left.

    Raises:
        ValueError: there is none.
    """
    return max(
        detections,
        key=lambda face: (face.width * face.height, face.score, -face.box[1], -face.box[0]),
    )


def _model_of(config: IngestConfig) -> Path:
    if config.detector_model is None:
        raise ValueError(f"detector {config.detector} without detector_model")
    return config.detector_model


def _overlap(box: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the area that two boxes share, px."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = map(float, box), map(float, other)
    return max(0.0, min(x1, u1) - max(x0, u0)) * max(0.0, min(y1, v1) - max(y0, v0))


def _centre_d2(box: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return four times the squared distance of two boxes' centres, px."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = map(float, box), map(float, other)
    return (x0 + x1 - u0 - u1) ** 2 + (y0 + y1 - v0 - v1) ** 2
