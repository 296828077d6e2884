"""Near-duplicates: a photo encoded again, and often cropped, scaled and brightened a little too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.synthetic.canvas import ByteImage
from facequarry.datasets.synthetic.scene import Box


@dataclass(frozen=True, kw_only=True, slots=True)
class Variation:
    """How a copy differs from its original."""

    size: tuple[int, int]  # width and height of the photo, px
    scale: float  # 1 or a little more: what grows beyond the border is lost
    shift: tuple[float, float]  # px, x and y
    gain: float
    quality: int  # of the JPEG

    def apply(self, raw: bytes) -> bytes:
        """Return the JPEG of the copy of a JPEG."""
        decoded = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
        picture = np.asarray(decoded, np.uint8)
        if self.scale != 1:
            shift_x, shift_y = self.shift
            to_copy = np.array([[self.scale, 0, shift_x], [0, self.scale, shift_y]])
            grown = cv2.warpAffine(picture, to_copy, self.size, borderMode=cv2.BORDER_REPLICATE)
            picture = np.asarray(cv2.convertScaleAbs(grown, alpha=self.gain), np.uint8)
        return to_jpeg(picture, quality=self.quality)

    def moved(self, box: Box) -> Box:
        """Return where a box of the original lies in the copy, within its border."""
        left, top, width, height = box
        low = [
            max(0, math.floor(self.scale * at + by))
            for at, by in zip((left, top), self.shift, strict=True)
        ]
        high = [
            min(limit, math.ceil(self.scale * at + by))
            for at, by, limit in zip(
                (left + width, top + height), self.shift, self.size, strict=True
            )
        ]
        return low[0], low[1], high[0] - low[0], high[1] - low[1]


def random_variation(size: tuple[int, int], rng: np.random.Generator) -> Variation:
    """Draw how a copy of a photo of `size` (width, height) differs: half are encoded again only."""
    quality = int(rng.integers(55, 90))
    if rng.uniform() < 0.5:
        return Variation(size=size, scale=1.0, shift=(0.0, 0.0), gain=1.0, quality=quality)
    scale = rng.uniform(1.01, 1.06)
    lost_x, lost_y = ((scale - 1) * side for side in size)
    return Variation(
        size=size,
        scale=scale,
        shift=(-lost_x * rng.uniform(), -lost_y * rng.uniform()),
        gain=rng.uniform(0.95, 1.05),
        quality=quality,
    )


def to_jpeg(picture: ByteImage, *, quality: int) -> bytes:
    """Encode an (H, W, 3) uint8 picture, channels blue, green, red.

    Raises:
        BadInput: OpenCV refuses it.
    """
    written, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise BadInput(f"OpenCV could not encode a picture of shape {picture.shape} as JPEG")
    return bytes(data.tobytes())
