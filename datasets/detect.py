"""Find faces in a photo. A detector is a name in `_FACTORIES` and a class with one method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datasets.config import IngestConfig
from datasets.decode import RgbImage

# Doubling a photo quadruples time and memory: small faces in large photos are left out.
_MAX_UPSAMPLED_PIXELS = 16_000_000


@dataclass(frozen=True, slots=True)
class Detection:
    """One face in a photo."""

    box: NDArray[np.float32]
    """(4,) float32, x0 y0 x1 y1, px; may reach over the photo's border."""
    score: float
    """The detector's own confidence, higher is surer; scales differ between detectors."""
    landmarks: NDArray[np.float32] | None = None
    """(10,) float32, five x y pairs, px; None where the detector gives none."""

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


class DlibHog:
    """dlib's frontal HOG detector: upright faces from 70 px, or 40 px after one doubling.

    A photo is searched as it is, and doubled only where that found nothing: photos with faces of
    70 px and more cost no second search.

    Args:
        upsample: how many doublings are tried at most.
    """

    name = "dlib-hog"

    def __init__(self, upsample: int) -> None:
        try:
            import dlib
        except ImportError as error:
            raise ValueError("detector dlib-hog needs dlib; try: pip install dlib-bin") from error
        self._detector = dlib.get_frontal_face_detector()
        self.options: dict[str, int | float | str] = {"upsample": upsample}
        self._upsample = upsample

    def detect(self, image: RgbImage) -> list[Detection]:
        """Find upright frontal faces."""
        for doublings in range(self._upsample + 1):
            if doublings and image.shape[0] * image.shape[1] * 4**doublings > _MAX_UPSAMPLED_PIXELS:
                break
            boxes, scores, _ = self._detector.run(image, doublings, 0.0)
            if boxes:
                # dlib counts the last pixel in, a box here ends where the next pixel starts.
                return [
                    Detection(
                        np.array(
                            (box.left(), box.top(), box.right() + 1, box.bottom() + 1), np.float32
                        ),
                        float(score),
                    )
                    for box, score in zip(boxes, scores, strict=True)
                ]
        return []


class WholePhoto:
    """Takes the whole photo for the face, for photos that are crops already."""

    name = "none"

    def __init__(self) -> None:
        self.options: dict[str, int | float | str] = {}

    def detect(self, image: RgbImage) -> list[Detection]:
        """Return one face: the photo."""
        height, width = image.shape[:2]
        return [Detection(np.array((0, 0, width, height), np.float32), 1.0)]


_FACTORIES: dict[str, Callable[[IngestConfig], Detector]] = {
    "dlib-hog": lambda config: DlibHog(config.upsample),
    "none": lambda config: WholePhoto(),
}


def make_detector(config: IngestConfig) -> Detector:
    """Make the detector that `config` names.

    Raises:
        ValueError: what it needs is not installed.
    """
    return _FACTORIES[config.detector](config)


def largest(detections: list[Detection]) -> Detection:
    """Return the face with the largest box; ties go to the higher score, then to the upper left.

    Raises:
        ValueError: there is none.
    """
    return max(
        detections,
        key=lambda face: (face.width * face.height, face.score, -face.box[1], -face.box[0]),
    )
