"""A face in a photo to a square crop of fixed size, and to its JPEG bytes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.detection.alignment import align_face
from facequarry.datasets.detection.detection import Detection
from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.jpeg import RgbImage

# Larger squares are shrunk before they are padded.
_LARGEST_SIDE_PX = 4096


def cut_face(
    image: RgbImage, face: Detection, *, alignment: str, crop_px: int, margin_px: int
) -> RgbImage:
    """Bring a detected face to crop size, by its box or by its five landmarks.

    Args:
        image: (H, W, 3) uint8 RGB.
        face: the face.
        alignment: `box` or `five-point`.
        crop_px: side of the crop, px.
        margin_px: both borders together, px at crop size, 0 <= margin_px < crop_px.

    Returns:
        (crop_px, crop_px, 3) uint8 RGB.

    Raises:
        BadInput: the box has no pixel, the landmarks are missing or no face's, or there is no
            such alignment.
    """
    match alignment:
        case "box":
            return crop_face(image, face.box, crop_px=crop_px, margin_px=margin_px)
        case "five-point":
            if face.landmarks is None:
                raise BadInput("five-point alignment of a face without landmarks")
            return align_face(image, face.landmarks, crop_px=crop_px, margin_px=margin_px)
        case _:
            raise BadInput(f"alignment is {alignment!r}, expected 'box' or 'five-point'")


def crop_face(
    image: RgbImage, box: NDArray[np.float32], *, crop_px: int, margin_px: int
) -> RgbImage:
    """Cut the square around a box and bring it to crop size.

    The square is centred on the box; its side is the box's longer side times
    crop_px / (crop_px - margin_px), so that the box fills crop_px - margin_px px of the crop.
    Where the square reaches over the photo's border, the border pixels are repeated.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: (4,) float32, x0 y0 x1 y1, px.
        crop_px: side of the crop, px.
        margin_px: both borders together, px at crop size, 0 <= margin_px < crop_px.

    Returns:
        (crop_px, crop_px, 3) uint8 RGB.

    Raises:
        BadInput: the box is empty or lies outside the photo.
    Source: the margin of FaceNet's alignment (Schroff et al. 2015, as in davidsandberg/facenet).
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    height, width = image.shape[:2]
    if not (0 < x1 - x0 and 0 < y1 - y0 and x0 < width and y0 < height and x1 > 0 and y1 > 0):
        raise BadInput(f"box {box.tolist()} has no pixel of a {width} x {height} px photo")
    side = max(1, round(max(x1 - x0, y1 - y0) * crop_px / (crop_px - margin_px)))
    # Rounding must not push a square off the last pixel that it shares with the photo.
    left = min(max(round((x0 + x1 - side) / 2), 1 - side), width - 1)
    top = min(max(round((y0 + y1 - side) / 2), 1 - side), height - 1)
    square = image[max(0, top) : top + side, max(0, left) : left + side]
    above, below = max(0, -top), max(0, top + side - height)
    before, after = max(0, -left), max(0, left + side - width)
    if side > _LARGEST_SIDE_PX:
        # A long thin photo would be padded to its longer side squared.
        scale = _LARGEST_SIDE_PX / side
        small = np.maximum(1, np.round(np.array(square.shape[:2]) * scale)).astype(int)
        shrunk = cv2.resize(square, small[::-1].tolist(), interpolation=cv2.INTER_AREA)
        square = np.asarray(shrunk, np.uint8)
        above, below, before, after = (
            round(border * scale) for border in (above, below, before, after)
        )
        side = _LARGEST_SIDE_PX
    padded = cv2.copyMakeBorder(square, above, below, before, after, cv2.BORDER_REPLICATE)
    how = cv2.INTER_AREA if side > crop_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(padded, (crop_px, crop_px), interpolation=how), np.uint8)
