"""One face in a photo, and what every detector is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.faces.jpeg import RgbImage


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
