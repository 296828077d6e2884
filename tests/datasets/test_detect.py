from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.config import IngestConfig
from datasets.decode import RgbImage, decode_photo
from datasets.detect import Detection, largest, make_detector


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
