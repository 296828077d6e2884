from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path

import cv2
import dlib
import numpy as np
import pytest

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.decode import decode_photo
from facequarry.datasets.detection.detection import Detection
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.detection.meant_face import largest
from facequarry.datasets.faces.schema import Reason, Rejected
from facequarry.datasets.sources.folder import FolderSource
from facequarry.datasets.synthetic.people import identity_of, random_shot, rng_of
from facequarry.datasets.synthetic.photo_options import PhotoOptions
from facequarry.datasets.synthetic.photo_set import (
    make_photo,
    photo_bytes,
    photo_truth,
    write_bad_photos,
    write_photos,
)
from facequarry.datasets.synthetic.photo_truth import LOOSE_BB, TRUTH, PhotoTruth

_MIXED = PhotoOptions(
    glasses=0.3,
    hats=0.3,
    beards=0.3,
    occluded=0.3,
    blurred=0.2,
    profile=0.3,
    bystanders=0.3,
    label_errors=0.2,
    near_duplicates=0.4,
    copies_across=0.3,
)


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


@pytest.mark.parametrize(
    ("identity", "photo", "seed", "expected"),
    [
        (
            *(3, 2, 0),
            "685356495c64635351545260565465665a6d89a78c5056546265747d4b5a5e5e"
            "625d94917267686f555e7f6f5a6d7474555a6a88707374746d6268584b717474",
        ),
        (
            *(40, 9, 3),
            "5d65684e4a51615e5259332d2d273b605d403133312f294a5140536682455141"
            "53538289827d6a39553a808c67805f3554586e7973646752576772675d677061",
        ),
    ],
)
def test_plain_portraits_look_as_they_always_did(
    identity: int, photo: int, seed: int, expected: str
) -> None:
    # The demo's figures rest on them. A digest of the bytes would differ between CPUs: OpenCV
    # rounds a few pixels by one grey level.
    grey = cv2.cvtColor(_decoded(photo_bytes(identity, photo, seed=seed)), cv2.COLOR_RGB2GRAY)
    thumbnail = cv2.resize(grey, (8, 8), interpolation=cv2.INTER_AREA).ravel().astype(int)
    assert np.abs(thumbnail - list(bytes.fromhex(expected))).max() <= 1


def test_the_numbers_behind_plain_portraits_are_those_they_always_were() -> None:
    drawn = []
    for number in (1, 7, 40):
        values = asdict(identity_of(number, seed=3)) | asdict(random_shot(rng_of(3, number, 9)))
        del values["extras"]
        drawn.append(json.dumps(values, sort_keys=True))
    assert hashlib.sha256("".join(drawn).encode()).hexdigest()[:16] == "9147112571c01129"


def test_the_default_options_are_plain_portraits_without_tables(tmp_path: Path) -> None:
    write_photos(
        tmp_path / "photos", num_identities=2, photos_per_identity=2, options=PhotoOptions()
    )
    assert _files(tmp_path / "photos") == {
        f"n{identity:06d}/{photo:04d}_01.jpg": photo_bytes(identity, photo)
        for identity in (1, 2)
        for photo in (1, 2)
    }


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


def test_photos_with_extras_repeat_and_survive_asking_for_more(tmp_path: Path) -> None:
    options = PhotoOptions(hats=0.5, occluded=0.5, bystanders=0.5, near_duplicates=0.5)
    for name, identities, photos in (("few", 2, 2), ("again", 2, 2), ("many", 3, 3)):
        write_photos(
            tmp_path / name,
            num_identities=identities,
            photos_per_identity=photos,
            seed=4,
            options=options,
        )
    few, many = _files(tmp_path / "few"), _files(tmp_path / "many")
    assert few == _files(tmp_path / "again")
    assert {name: raw for name, raw in few.items() if name.endswith(".jpg")}.items() <= many.items()


@pytest.mark.parametrize(
    "name", ["glasses", "hats", "beards", "occluded", "blurred", "profile", "bystanders"]
)
def test_every_extra_changes_the_pixels_of_the_photos_that_have_it(name: str) -> None:
    options = PhotoOptions(**{name: 1.0})
    for identity in range(1, 5):
        raw, _ = make_photo(identity, 1, num_identities=4, options=options)
        assert raw != photo_bytes(identity, 1)


def test_every_photo_with_everything_asked_for_is_drawn_and_has_a_box_inside_it() -> None:
    for identity in range(1, 25):
        raw, truth = make_photo(identity, 3, num_identities=24, options=_MIXED)
        height, width, _ = _decoded(raw).shape
        left, top, box_width, box_height = truth.box
        assert 0 <= left < left + box_width <= width
        assert 0 <= top < top + box_height <= height
        assert truth == photo_truth(identity, 3, num_identities=24, options=_MIXED)


def test_the_face_nearest_to_the_box_is_in_it_and_the_largest_often_is_not() -> None:
    detector = make_detector(IngestConfig())
    options = PhotoOptions(bystanders=1.0)
    num_nearest = num_largest = 0
    for identity in range(1, 21):
        raw, truth = make_photo(identity, 1, num_identities=20, options=options, seed=2)
        faces = detector.detect(_decoded(raw))
        left, top, width, height = truth.box
        middle = np.array([left + width / 2, top + height / 2])
        nearest = min(faces, key=lambda face: float(np.hypot(*(_middle(face) - middle))))
        num_nearest += bool(np.all(np.abs(_middle(nearest) - middle) < (width / 3, height / 3)))
        num_largest += bool(
            np.all(np.abs(_middle(largest(faces)) - middle) < (width / 3, height / 3))
        )
    assert num_nearest >= 19 and num_largest <= 14


def test_a_copy_looks_like_its_original_and_is_no_copy_of_bytes() -> None:
    options = PhotoOptions(near_duplicates=1.0, copies_across=0.3)
    num_moved = 0
    for identity in range(1, 4):
        for photo in range(2, 6):
            raw, truth = make_photo(identity, photo, num_identities=3, options=options)
            original_raw, original = _made(truth.copy_of, num_identities=3, options=options)
            assert original.copy_of == "" and raw != original_raw and truth.shows == original.shows
            difference = _thumbnail(raw) - _thumbnail(original_raw)
            assert np.abs(difference).mean() < 14
            num_moved += truth.box != original.box
    assert 2 <= num_moved <= 10


def test_a_label_error_is_a_photo_of_its_own_of_the_other_person() -> None:
    options = PhotoOptions(label_errors=1.0)
    raws = set()
    for identity in range(1, 5):
        raw, truth = make_photo(identity, 1, num_identities=4, options=options)
        assert truth.is_label_error
        shown = int(truth.shows.removeprefix("n"))
        assert 1 <= shown <= 4
        assert raw not in (photo_bytes(identity, 1), photo_bytes(shown, 1))
        raws.add(raw)
    assert len(raws) == 4


def test_the_tables_say_what_every_photo_is_and_are_no_photos(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    assert write_photos(root, num_identities=4, photos_per_identity=5, options=_MIXED) == 20
    truths = [
        photo_truth(identity, photo, num_identities=4, options=_MIXED)
        for identity in range(1, 5)
        for photo in range(1, 6)
    ]
    lines = (root / LOOSE_BB).read_text().splitlines()
    assert lines == ["NAME_ID,X,Y,W,H"] + [
        f'"{t.source[:-4]}",{t.box[0]},{t.box[1]},{t.box[2]},{t.box[3]}' for t in truths
    ]
    with (root / TRUTH).open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [field.name for field in fields(PhotoTruth) if field.name != "box"]
    assert rows == [{name: str(getattr(truth, name)) for name in names} for truth in truths]
    assert any(truth.is_label_error for truth in truths) and any(t.copy_of for t in truths)

    listing = FolderSource(root).scan()
    assert listing.photos["source"].to_pylist() == [truth.source for truth in truths]
    assert listing.left_out == {}


def test_label_errors_among_a_single_identity_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label_errors needs two identities or more"):
        write_photos(
            tmp_path / "photos",
            num_identities=1,
            photos_per_identity=1,
            options=PhotoOptions(label_errors=0.1),
        )
    assert not (tmp_path / "photos").exists()


def _middle(face: Detection) -> np.ndarray:
    return np.asarray((face.box[:2] + face.box[2:]) / 2)


def _made(source: str, *, num_identities: int, options: PhotoOptions) -> tuple[bytes, PhotoTruth]:
    identity, photo = int(source[1:7]), int(source[8:12])
    return make_photo(identity, photo, num_identities=num_identities, options=options)


def _thumbnail(raw: bytes) -> np.ndarray:
    return np.asarray(cv2.resize(_decoded(raw), (16, 16), interpolation=cv2.INTER_AREA), float)
