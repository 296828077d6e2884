from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from facequarry.datasets.detection.alignment import align_face, similarity, template
from facequarry.datasets.faces.jpeg import RgbImage
from tests.datasets.photos import draw

Matrix = NDArray[np.float64]


def _placed(scale: float, degrees: float, x: float, y: float) -> NDArray[np.float32]:
    """Return the landmarks that a crop of 112 px has after it was scaled, turned and shifted."""
    turn = scale * np.exp(1j * math.radians(degrees))
    points = (template(crop_px=112, margin_px=0) @ (1, 1j)) * turn + complex(x, y)
    return np.stack((points.real, points.imag), axis=1).ravel().astype(np.float32)


def _apply(to_crop: Matrix, points: NDArray[np.float32]) -> Matrix:
    return points.reshape(-1, 2).astype(np.float64) @ to_crop[:, :2].T + to_crop[:, 2]


def _lstsq(landmarks: NDArray[np.float32], targets: Matrix) -> Matrix:
    """Solve a x - b y + u, b x + a y + v for the five points at once."""
    x, y = landmarks.reshape(5, 2).astype(np.float64).T
    one, zero = np.ones(5), np.zeros(5)
    system = np.vstack((np.stack((x, -y, one, zero), 1), np.stack((y, x, zero, one), 1)))
    a, b, u, v = np.linalg.lstsq(system, targets.T.ravel(), rcond=None)[0]
    return np.array(((a, -b, u), (b, a, v)))


def _supersampled(image: RgbImage, to_crop: Matrix, crop_px: int, samples: int = 16) -> Matrix:
    """Average samples x samples interpolated points in each pixel of the crop, in float64."""
    at = (np.arange(crop_px * samples) + 0.5) / samples
    points = np.stack(np.meshgrid(at, at), axis=-1) - to_crop[:, 2]
    shown = np.linalg.solve(to_crop[:, :2], points.reshape(-1, 2).T).T - 0.5
    height, width = image.shape[:2]
    x, y = np.clip(shown, 0, (width - 1, height - 1)).T
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    right, down = (x - left)[:, None], (y - top)[:, None]
    pixels = image.astype(np.float64)
    upper = pixels[top, left] * (1 - right) + pixels[top, left + 1] * right
    lower = pixels[top + 1, left] * (1 - right) + pixels[top + 1, left + 1] * right
    values = upper * (1 - down) + lower * down
    blocks = values.reshape(crop_px, samples, crop_px, samples, 3)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float64)


def test_landmarks_land_on_the_template_whatever_the_pose() -> None:
    for scale, degrees in ((0.3, 0), (1, 40), (7.5, -120), (20, 179)):
        landmarks = _placed(scale, degrees, 300, 200)
        to_crop = similarity(landmarks, crop_px=160, margin_px=44)
        aims = template(crop_px=160, margin_px=44)
        assert np.abs(_apply(to_crop, landmarks) - aims).max() < 1e-3


def test_template_fills_the_crop_but_for_the_margin() -> None:
    assert np.allclose(template(crop_px=112, margin_px=0)[0], (38.2946, 51.6963))
    assert np.allclose(template(crop_px=224, margin_px=0)[2], (112.0504, 143.4732))
    assert np.allclose(template(crop_px=122, margin_px=10)[3], (41.5493 + 5, 92.3655 + 5))


@given(
    st.lists(st.floats(-500, 3000, width=32), min_size=10, max_size=10),
    st.sampled_from(((112, 0), (160, 44), (64, 3))),
)
def test_transform_is_the_least_squares_similarity(
    values: list[float], size: tuple[int, int]
) -> None:
    landmarks = np.array(values, np.float32)
    crop_px, margin_px = size
    spread = landmarks.reshape(5, 2).std(axis=0).max()
    if spread < 1:
        return
    to_crop = similarity(landmarks, crop_px=crop_px, margin_px=margin_px)
    expected = _lstsq(landmarks, template(crop_px=crop_px, margin_px=margin_px))
    assert np.allclose(to_crop, expected, atol=1e-6 * max(1.0, np.abs(expected).max()))
    assert np.linalg.det(to_crop[:, :2]) >= 0


@pytest.mark.parametrize("value", [5.0, np.nan, np.inf])
def test_landmarks_of_no_face_are_refused(value: float) -> None:
    landmarks = np.full(10, value, np.float32)
    with pytest.raises(ValueError, match="are not those of a face"):
        align_face(draw(1, 50, 50), landmarks, crop_px=32, margin_px=0)


@pytest.mark.parametrize(
    ("scale", "degrees"), [(0.4, 10), (0.8, 0), (1.3, -25), (2.6, 30), (5, 90), (6, -170)]
)
def test_crop_is_the_supersampled_one(scale: float, degrees: float) -> None:
    image = draw(3, 1200, 1000)
    # Stripes of one to nine px: a crop without a filter would drown in them.
    for period in range(2, 18, 3):
        image[period * 60 :: period, 40 * period : 40 * period + 200] ^= 255
    middle = _placed(scale, degrees, 0, 0).reshape(5, 2).mean(axis=0)
    landmarks = _placed(scale, degrees, 500 - middle[0], 600 - middle[1])
    to_crop = similarity(landmarks, crop_px=64, margin_px=8)
    expected = _supersampled(image, to_crop, 64)
    crop = align_face(image, landmarks, crop_px=64, margin_px=8)
    assert crop.shape == (64, 64, 3)
    error = np.abs(crop - expected).mean()
    to_crop[:, 2] += to_crop[:, :2] @ (0.5, 0.5) - 0.5
    plain = cv2.warpAffine(image, to_crop, (64, 64), borderMode=cv2.BORDER_REPLICATE)
    assert error < 1.5
    assert scale < 2 or error < np.abs(plain - expected).mean() / 3


def test_border_pixels_are_repeated_outside_the_photo() -> None:
    image = np.full((60, 60, 3), 50, np.uint8)
    image[:, :2], image[:, -2:] = 200, 90
    # The crop's left edge lies 26 px left of the photo, its right edge as far to the right.
    crop = align_face(image, _placed(1, 0, -26, -26), crop_px=112, margin_px=0)
    assert (crop[:, :26] == 200).all()
    assert (crop[:, 29:83] == 50).all()
    assert (crop[:, 87:] == 90).all()
    assert (align_face(image, _placed(1, 0, 500, 0), crop_px=112, margin_px=0) == 90).all()


def test_huge_and_narrow_photos_are_aligned() -> None:
    image = np.full((8, 40_000, 3), 77, np.uint8)
    crop = align_face(image, _placed(300, 0, 3000, -10_000), crop_px=112, margin_px=0)
    assert (crop == 77).all()
