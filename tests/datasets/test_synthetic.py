from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest

from datasets.decode import decode_photo
from datasets.people import identity_of
from datasets.schema import Reason, Rejected
from datasets.synthetic import photo_bytes, write_bad_photos, write_photos


def _decoded(raw: bytes) -> np.ndarray:
    return decode_photo(raw, max_pixels=1_000_000)


def _files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_photos_lie_in_the_vggface2_layout(tmp_path: Path) -> None:
    assert write_photos(tmp_path / "photos", num_identities=2, photos_per_identity=3) == 6
    assert sorted(_files(tmp_path / "photos")) == [
        f"n00000{identity}/000{photo}_01.jpg" for identity in (1, 2) for photo in (1, 2, 3)
    ]


def test_photos_are_colour_and_about_two_hundred_pixels_a_side() -> None:
    for photo in range(1, 9):
        height, width, channels = _decoded(photo_bytes(1, photo)).shape
        assert 160 <= height <= 260 and 160 <= width <= 260 and channels == 3


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_people(tmp_path: Path) -> None:
    for name, seed in (("first", 7), ("again", 7), ("other", 8)):
        write_photos(tmp_path / name, num_identities=2, photos_per_identity=2, seed=seed)
    first = _files(tmp_path / "first")
    assert first == _files(tmp_path / "again")
    other = _files(tmp_path / "other")
    assert other.keys() == first.keys()
    assert not set(other.values()) & set(first.values())


def test_asking_for_more_changes_no_earlier_photo(tmp_path: Path) -> None:
    write_photos(tmp_path / "few", num_identities=2, photos_per_identity=2)
    write_photos(tmp_path / "many", num_identities=3, photos_per_identity=4)
    assert _files(tmp_path / "few").items() <= _files(tmp_path / "many").items()


def test_every_photo_and_every_identity_is_different() -> None:
    photos = [photo_bytes(identity, photo) for identity in (1, 2, 3) for photo in (1, 2, 3)]
    assert len(set(photos)) == len(photos)
    assert len({identity_of(number) for number in range(1, 101)}) == 100


def test_dlib_finds_the_face_in_nine_photos_of_ten() -> None:
    detector = dlib.get_frontal_face_detector()
    photos = [_decoded(photo_bytes(i, p, seed=3)) for i in range(1, 21) for p in range(1, 6)]
    num_centred = 0
    for photo in photos:
        for box in detector(photo, 0):
            offset = np.array([box.center().x, box.center().y]) / photo.shape[1::-1] - 0.5
            num_centred += bool(np.abs(offset).max() < 0.2)
    assert num_centred >= 0.9 * len(photos)


def test_pixels_alone_tell_identities_apart_a_little_and_not_well() -> None:
    # Light, pose and backdrop must dominate, or there is nothing left to learn.
    photos, identities = [], np.repeat(np.arange(1, 17), 6)
    for index, identity in enumerate(identities):
        grey = cv2.cvtColor(_decoded(photo_bytes(int(identity), 1 + index % 6)), cv2.COLOR_RGB2GRAY)
        photos.append(cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA).ravel())
    pixels = np.asarray(photos, np.float64)
    first, second = np.triu_indices(len(pixels), 1)
    d2 = ((pixels[first] - pixels[second]) ** 2).sum(axis=1)
    is_same = identities[first] == identities[second]
    auc = (d2[is_same][:, None] < d2[~is_same][None]).mean()
    assert 0.5 < auc < 0.75


@pytest.mark.parametrize(
    ("num_identities", "photos_per_identity", "seed", "name"),
    [
        (0, 1, 0, "num_identities"),
        (1_000_000, 1, 0, "num_identities"),
        (1, 0, 0, "photos_per_identity"),
        (1, 10_000, 0, "photos_per_identity"),
        (1, 1, -1, "seed"),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(
    tmp_path: Path, num_identities: int, photos_per_identity: int, seed: int, name: str
) -> None:
    with pytest.raises(ValueError, match=f"^{name} is .* expected "):
        write_photos(
            tmp_path / "photos",
            num_identities=num_identities,
            photos_per_identity=photos_per_identity,
            seed=seed,
        )
    assert not (tmp_path / "photos").exists()


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        write_photos(tmp_path, num_identities=1, photos_per_identity=1)
    assert _files(tmp_path) == {"mine.txt": b"keep"}


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert write_photos(tmp_path / "photos", num_identities=1, photos_per_identity=1) == 1


def test_bad_photos_are_rejected_for_the_reasons_they_were_written_for(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", num_identities=3, photos_per_identity=2)
    good = _files(tmp_path / "photos")
    expected = write_bad_photos(tmp_path / "photos")

    detector = dlib.get_frontal_face_detector()
    found: Counter[Reason] = Counter()
    for name in _files(tmp_path / "photos").keys() - good.keys():
        identity, _, file_name = name.partition("/")
        assert (tmp_path / "photos" / identity / "0001_01.jpg").is_file()
        assert file_name.endswith("_02.jpg")
        raw = (tmp_path / "photos" / name).read_bytes()
        if not raw:
            found[Reason.EMPTY_FILE] += 1
            continue
        try:
            found[Reason.NO_FACE] += not detector(_decoded(raw), 1)
        except Rejected as error:
            found[error.reason] += 1
    assert dict(found) == expected
    assert sum(expected.values()) == 5
    assert good.items() <= _files(tmp_path / "photos").items()


def test_bad_photos_need_identities_and_are_added_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no identities under"):
        write_bad_photos(tmp_path)
    write_photos(tmp_path / "photos", num_identities=1, photos_per_identity=1)
    write_bad_photos(tmp_path / "photos")
    with pytest.raises(FileExistsError):
        write_bad_photos(tmp_path / "photos")
