from __future__ import annotations

import cv2
import numpy as np
import pytest

from facequarry.datasets.detection.alignment import align_face
from facequarry.datasets.detection.crop import crop_face, cut_face
from facequarry.datasets.detection.detection import Detection
from facequarry.datasets.faces.jpeg import decode_jpeg, encode_jpeg
from tests.datasets.photos import draw


def _box(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_without_margin_a_square_box_is_cut_exactly() -> None:
    image = draw(1, 60, 60)
    crop = crop_face(image, _box(10, 20, 42, 52), crop_px=32, margin_px=0)
    assert np.array_equal(crop, image[20:52, 10:42])


def test_box_fills_the_crop_but_for_the_margin() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    image[150:266, 150:266] = 255
    crop = crop_face(image, _box(150, 150, 266, 266), crop_px=160, margin_px=44)
    assert crop.shape == (160, 160, 3)
    assert np.array_equal(np.flatnonzero(crop[80, :, 0]), np.arange(22, 22 + 116))


def test_longer_side_of_the_box_decides() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, 40:60] = 255
    crop = crop_face(image, _box(40, 30, 60, 70), crop_px=40, margin_px=0)
    assert int((crop[20, :, 0] > 0).sum()) == 20


def test_border_pixels_are_repeated_outside_the_photo() -> None:
    image = draw(2, 50, 50)
    crop = crop_face(image, _box(-10, -10, 22, 22), crop_px=32, margin_px=0)
    assert np.array_equal(crop[10:, 10:], image[:22, :22])
    assert (crop[:10, :10] == image[0, 0]).all()


@pytest.mark.parametrize("box", [(49.6, 10, 80, 40), (-30, 10, 0.4, 40), (10, 49.6, 40, 80)])
def test_box_that_touches_the_photo_gives_a_crop(box: tuple[float, ...]) -> None:
    crop = crop_face(draw(2, 50, 50), _box(*box), crop_px=32, margin_px=8)
    assert crop.shape == (32, 32, 3)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (60, 0, 70, 10), (-9, 0, -1, 8)])
def test_box_without_a_pixel_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="has no pixel of a 50 x 50 px photo"):
        crop_face(draw(2, 50, 50), _box(*box), crop_px=32, margin_px=0)


def test_jpeg_keeps_channel_order_and_nearly_all_detail() -> None:
    image = draw(3, 160, 160)
    decoded = decode_jpeg(encode_jpeg(image))
    assert np.abs(decoded.astype(int) - image.astype(int)).mean() < 3
    with pytest.raises(ValueError, match="no JPEG"):
        decode_jpeg(b"nothing")


def test_face_is_cut_by_its_box_or_by_its_landmarks() -> None:
    image, box = draw(4, 90, 90), _box(20, 20, 60, 60)
    landmarks = np.array((30, 35, 50, 35, 40, 45, 33, 55, 47, 55), np.float32)
    face = Detection(box, 1.0, landmarks)
    by_box = cut_face(image, face, alignment="box", crop_px=32, margin_px=8)
    assert np.array_equal(by_box, crop_face(image, box, crop_px=32, margin_px=8))
    by_points = cut_face(image, face, alignment="five-point", crop_px=32, margin_px=8)
    assert np.array_equal(by_points, align_face(image, landmarks, crop_px=32, margin_px=8))


def test_face_without_landmarks_is_not_aligned() -> None:
    image, face = draw(4, 90, 90), Detection(_box(20, 20, 60, 60), 1.0)
    with pytest.raises(ValueError, match="without landmarks"):
        cut_face(image, face, alignment="five-point", crop_px=32, margin_px=0)
    with pytest.raises(ValueError, match="alignment is 'eyes'"):
        cut_face(image, face, alignment="eyes", crop_px=32, margin_px=0)


def test_long_thin_photo_is_cropped_without_padding_it_to_a_square_of_its_length() -> None:
    image = np.zeros((10, 60_000, 3), np.uint8)
    image[:, 30_000:] = 200
    box = np.array((0, 0, 60_000, 10), np.float32)
    crop = crop_face(image, box, crop_px=32, margin_px=0)
    assert crop.shape == (32, 32, 3)
    assert (crop[:, :15] == 0).all() and (crop[:, 17:] == 200).all()


def test_large_square_is_shrunk_to_what_it_would_have_been(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    image = np.asarray(cv2.resize(small, (720, 960), interpolation=cv2.INTER_CUBIC), np.uint8)
    box = np.array((-100, 50, 700, 990), np.float32)
    whole = crop_face(image, box, crop_px=64, margin_px=16).astype(int)
    monkeypatch.setattr("facequarry.datasets.detection.crop._LARGEST_SIDE_PX", 512)
    assert np.abs(crop_face(image, box, crop_px=64, margin_px=16) - whole).mean() < 3
