"""dlib's two face detectors: HOG, which needs no file, and the CNN that its authors call MMOD."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.config import MODEL_FILES
from facequarry.datasets.detection.detection import Detection
from facequarry.datasets.disk.errors import NotInstalled
from facequarry.datasets.disk.model_file import read_model, wrong_model
from facequarry.datasets.faces.jpeg import RgbImage

# Doubling a photo quadruples time and memory: small faces in large photos are left out.
_MAX_HOG_DOUBLED_PIXELS = 16_000_000
# On one core the CNN takes 5 s and 1 GB for each megapixel that it searches.
_MAX_MMOD_PIXELS = 1_000_000
# The CNN's layers refuse photos of fewer px; half its smallest face is none anyway.
_MIN_MMOD_SIDE_PX = 40
# Name of the network's loss layer, near the start of dlib's file.
_MMOD_MAGIC = b"loss_mmod_"


class DlibHog:
    """dlib's frontal HOG detector: upright faces from 70 px, or 40 px after one doubling.

    A photo is searched as it is, and doubled only where that found nothing: photos with faces of
    70 px and more cost no second search.

    Args:
        upsample: how many doublings are tried at most.
        min_score: lowest score of a face.

    Raises:
        BadInput: dlib is not installed.
    """

    name = "dlib-hog"

    def __init__(self, upsample: int, min_score: float = 0.0) -> None:
        self._dlib = _dlib(self.name)
        self._upsample = upsample
        self._min_score = min_score
        self.options: dict[str, int | float | str] = {"upsample": upsample}
        # dlib's own threshold goes without saying: the digest of options is that of a root made
        # where no threshold could be named.
        if min_score:
            self.options["min_score"] = min_score

    @functools.cached_property
    def _detector(self) -> Any:
        # At first use: a driver needs the options alone, and loading takes half a second.
        return self._dlib.get_frontal_face_detector()

    def detect(self, image: RgbImage) -> list[Detection]:
        """Find upright frontal faces."""
        num_pixels = image.shape[0] * image.shape[1]
        for doublings in range(self._upsample + 1):
            if doublings and num_pixels * 4**doublings > _MAX_HOG_DOUBLED_PIXELS:
                break
            boxes, scores, _ = self._detector.run(image, doublings, self._min_score)
            if boxes:
                return [
                    Detection(_box(box), float(score))
                    for box, score in zip(boxes, scores, strict=True)
                ]
        return []


class DlibMmod:
    """dlib's CNN detector: faces from 80 px in most poses, or 40 px after one doubling.

    A photo of more than a megapixel is shrunk to one; it is doubled, up to a megapixel, only where
    nothing was found.

    Args:
        model: path of mmod_human_face_detector.dat.
        upsample: how many doublings are tried at most.
        min_score: lowest score of a face, 0 or more.

    Raises:
        NotFound: there is no such file.
        BadInput: it is no model of this detector, or dlib is not installed.
    """

    name = "dlib-mmod"

    def __init__(self, model: Path, upsample: int, min_score: float = 0.0) -> None:
        expected = MODEL_FILES["dlib-mmod"]
        raw = read_model(model, detector=self.name, expected=expected)
        if _MMOD_MAGIC not in raw[:32]:
            raise wrong_model(model, self.name, expected, f"it starts with {raw[:8]!r}")
        try:
            self._detector = _dlib(self.name).cnn_face_detection_model_v1(str(model))
        except RuntimeError as error:
            cause = " ".join(str(error).split())
            raise wrong_model(model, self.name, expected, f"dlib says {cause!r}") from error
        self._upsample = upsample
        self._min_score = min_score
        self.options: dict[str, int | float | str] = {
            "model_sha256": hashlib.sha256(raw).hexdigest(),
            "upsample": upsample,
            "min_score": min_score,
            "max_pixels": _MAX_MMOD_PIXELS,
        }

    def detect(self, image: RgbImage) -> list[Detection]:
        """Find faces."""
        height, width = image.shape[:2]
        shrink = min(1.0, (_MAX_MMOD_PIXELS / (width * height)) ** 0.5)
        if shrink < 1:
            size = (max(1, int(width * shrink)), max(1, int(height * shrink)))
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        rows, columns = image.shape[:2]
        to_photo = np.array((width / columns, height / rows) * 2, np.float32)
        for doublings in range(self._upsample + 1):
            if doublings and rows * columns * 4**doublings > _MAX_MMOD_PIXELS:
                break
            if min(rows, columns) << doublings < _MIN_MMOD_SIDE_PX:
                continue
            faces = [
                Detection(_box(found.rect) * to_photo, float(found.confidence))
                for found in self._detector(image, doublings)
                if found.confidence >= self._min_score
            ]
            if faces:
                return faces
        return []


def _dlib(detector: str) -> Any:
    try:
        import dlib
    except ImportError as error:
        raise NotInstalled(f"detector {detector} needs dlib; try: pip install dlib-bin") from error
    return dlib


def _box(rect: Any) -> NDArray[np.float32]:
    # dlib counts the last pixel in, a box here ends where the next pixel starts.
    return np.array((rect.left(), rect.top(), rect.right() + 1, rect.bottom() + 1), np.float32)
