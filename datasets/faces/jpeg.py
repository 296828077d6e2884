"""The pixels of a crop to the JPEG bytes of a shard, and back."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.schema import JPEG_QUALITY

RgbImage = NDArray[np.uint8]
"""(H, W, 3) uint8, channels red, green, blue."""


def encode_jpeg(image: RgbImage) -> bytes:
    """Encode an (H, W, 3) uint8 RGB picture at the quality of shards.

    Raises:
        BadInput: OpenCV refuses it.
    """
    is_done, raw = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not is_done:
        raise BadInput(f"OpenCV cannot encode an array of shape {image.shape}")
    encoded: bytes = raw.tobytes()
    return encoded


def decode_jpeg(raw: bytes | NDArray[np.uint8]) -> RgbImage:
    """Decode JPEG bytes of our own making to (H, W, 3) uint8 RGB.

    Raises:
        BadInput: the bytes are no JPEG.
    """
    encoded = np.frombuffer(raw, np.uint8) if isinstance(raw, bytes) else raw
    # The decoder writes RGB itself: turning BGR around afterwards costs a fourteenth more.
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise BadInput(f"{len(encoded)} bytes of a crop are no JPEG")
    return np.asarray(image, np.uint8)
