"""The detector that a configuration names: one row of a table a detector.

dlib's are in `dlib_detectors.py`, YuNet in `yunet.py`; `WholePhoto` looks for nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.detection import Detection, Detector
from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.jpeg import RgbImage


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
        NotFound: its model file does not exist.
        BadInput: the model file is not one of this detector, or what it needs is not installed.
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


def _model_of(config: IngestConfig) -> Path:
    if config.detector_model is None:
        raise BadInput(f"detector {config.detector} without detector_model")
    return config.detector_model
