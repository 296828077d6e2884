from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest

from facequarry.datasets.config import MODEL_FILES, IngestConfig
from facequarry.datasets.detection.alignment import similarity, template
from facequarry.datasets.detection.decode import decode_photo
from facequarry.datasets.detection.detection import Detection
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.detection.meant_face import choose, largest
from facequarry.datasets.faces.jpeg import RgbImage


def _photo(path: Path) -> RgbImage:
    return decode_photo(path.read_bytes(), max_pixels=10_000_000)


def test_none_takes_the_whole_photo() -> None:
    detector = make_detector(IngestConfig(detector="none"))
    (face,) = detector.detect(np.zeros((30, 20, 3), np.uint8))
    assert face.box.tolist() == [0, 0, 20, 30]
    assert (detector.name, detector.options) == ("none", {})


def test_hog_finds_no_face_in_a_blank_photo() -> None:
    detector = make_detector(IngestConfig())
    assert detector.detect(np.zeros((90, 90, 3), np.uint8)) == []
    assert (detector.name, detector.options) == ("dlib-hog", {"upsample": 1})


def test_largest_face_wins_and_ties_are_ordered() -> None:
    def face(x: float, side: float, score: float) -> Detection:
        return Detection(np.array((x, 0, x + side, side), np.float32), score)

    small, left, right, surer = face(0, 5, 9), face(10, 8, 1), face(30, 8, 1), face(50, 8, 2)
    assert largest([small, right, left]) is left
    assert largest([left, surer, right]) is surer


def test_hogs_own_threshold_is_not_recorded_and_another_is() -> None:
    detector = make_detector(IngestConfig(min_score=0.5))
    assert detector.options == {"upsample": 1, "min_score": 0.5}


@pytest.mark.real_data
def test_small_faces_are_found_by_doubling_only(real_data: Path) -> None:
    small = _photo(real_data / "vggface2_sample" / "n007241" / "0277_04.jpg")
    assert make_detector(IngestConfig(upsample=0)).detect(small) == []
    (face,) = make_detector(IngestConfig(upsample=1)).detect(small)
    assert 30 < face.width < 70


@pytest.mark.real_data
def test_several_faces_are_found_in_a_group_photo(real_data: Path) -> None:
    faces = make_detector(IngestConfig()).detect(_photo(real_data / "group_photos/bald_guys.jpg"))
    assert len(faces) >= 4
    assert all(0.8 < face.width / face.height < 1.25 for face in faces)


def _config(
    real_data: Path, detector: Literal["dlib-mmod", "yunet"], **fields: Any
) -> IngestConfig:
    model = real_data / "models" / MODEL_FILES[detector]
    return IngestConfig(detector=detector, detector_model=model, **fields)


def _same(one: list[Detection], other: list[Detection]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.box, b.box) and a.score == b.score for a, b in zip(one, other, strict=True)
    )


@pytest.mark.real_data
def test_hog_finds_fewer_faces_above_a_higher_score(real_data: Path) -> None:
    photo = _photo(real_data / "group_photos" / "bald_guys.jpg")
    faces = make_detector(IngestConfig()).detect(photo)
    sure = make_detector(IngestConfig(min_score=1.0)).detect(photo)
    assert _same(sure, [face for face in faces if face.score >= 1.0])
    assert 0 < len(sure) < len(faces)


@pytest.mark.real_data
def test_mmod_finds_the_faces_of_a_group(real_data: Path) -> None:
    photo = _photo(real_data / "group_photos" / "2008_001009.jpg")
    detector = make_detector(_config(real_data, "dlib-mmod", upsample=0))
    faces = detector.detect(photo)
    assert len(faces) == 2
    assert all(60 < face.width < 120 and face.score > 0.9 for face in faces)
    assert all(face.landmarks is None for face in faces)
    sure = make_detector(_config(real_data, "dlib-mmod", upsample=0, min_score=1.09))
    assert _same(sure.detect(photo), [face for face in faces if face.score >= 1.09])


@pytest.mark.real_data
def test_mmod_doubles_small_photos_and_shrinks_large_ones(real_data: Path) -> None:
    small = _photo(real_data / "vggface2_sample" / "n007241" / "0277_04.jpg")
    assert make_detector(_config(real_data, "dlib-mmod", upsample=0)).detect(small) == []
    detector = make_detector(_config(real_data, "dlib-mmod"))
    (face,) = detector.detect(small)
    large = cv2.resize(small, None, fx=20, fy=20, interpolation=cv2.INTER_CUBIC)
    (same,) = detector.detect(np.asarray(large, np.uint8))
    assert np.abs(same.box / 20 - face.box).max() < 0.2 * face.width


@pytest.mark.real_data
def test_yunet_finds_the_faces_and_landmarks_of_a_group(real_data: Path) -> None:
    faces = make_detector(_config(real_data, "yunet")).detect(
        _photo(real_data / "group_photos" / "2007_007763.jpg")
    )
    assert len(faces) == 7
    for face in faces:
        assert face.landmarks is not None
        assert face.landmarks.dtype == face.box.dtype == np.float32
        x, y = face.landmarks.reshape(5, 2).T
        # The template's order: left before right in the picture, from the eyes down to the mouth.
        assert x[0] < x[1] and x[3] < x[4]
        assert max(y[0], y[1]) < y[2] < min(y[3], y[4])
        assert (face.box[0] - 3 < x).all() and (x < face.box[2] + 3).all()
        assert (face.box[1] < y).all() and (y < face.box[3]).all()


@pytest.mark.real_data
def test_yunet_finds_one_face_in_each_loose_crop(real_data: Path) -> None:
    detector = make_detector(_config(real_data, "yunet"))
    for path in sorted((real_data / "vggface2_sample").glob("*/*.jpg")):
        (face,) = detector.detect(_photo(path))
        assert face.landmarks is not None
        crop_px = similarity(face.landmarks, crop_px=112, margin_px=0)
        placed = face.landmarks.reshape(5, 2) @ crop_px[:, :2].T + crop_px[:, 2]
        assert np.abs(placed - template(crop_px=112, margin_px=0)).max() < 15


@pytest.mark.real_data
def test_yunet_doubles_only_where_nothing_was_found(real_data: Path) -> None:
    photo = _photo(real_data / "group_photos" / "2008_001009.jpg")
    shown = cv2.copyMakeBorder(photo, 0, 2200, 0, 2200, cv2.BORDER_CONSTANT, value=(90, 90, 90))
    wide = np.asarray(shown, np.uint8)
    assert make_detector(_config(real_data, "yunet", upsample=0)).detect(wide) == []
    found = make_detector(_config(real_data, "yunet", upsample=2)).detect(wide)
    alone = make_detector(_config(real_data, "yunet")).detect(photo)
    assert len(found) == len(alone) == 2
    for face in found:
        near = choose(alone, face.box)
        assert near is not None
        assert np.abs(near.box - face.box).max() < 0.25 * near.width


@pytest.mark.real_data
def test_yunet_does_not_remember_the_photo_before(real_data: Path) -> None:
    group = _photo(real_data / "group_photos" / "2007_007763.jpg")
    loose = _photo(real_data / "vggface2_sample" / "n007241" / "0277_04.jpg")
    used = make_detector(_config(real_data, "yunet"))
    first = used.detect(group)
    used.detect(loose)
    fresh = make_detector(_config(real_data, "yunet"))
    assert _same(used.detect(loose), fresh.detect(loose))
    assert _same(first, fresh.detect(group))
    assert _same(first, used.detect(group))


@pytest.mark.real_data
@pytest.mark.parametrize("detector", ["dlib-mmod", "yunet"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (39, 39), (41, 20), (4, 3000)])
def test_tiny_and_narrow_photos_have_no_face(
    real_data: Path, detector: Literal["dlib-mmod", "yunet"], size: tuple[int, int]
) -> None:
    blank = np.zeros((*size, 3), np.uint8)
    assert make_detector(_config(real_data, detector, upsample=2)).detect(blank) == []
