"""Photos of a pairs file to faces: found, rejected and counted, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from facequarry.datasets.faces.split import Part
from facequarry.datasets.faces.store import FaceStore
from facequarry.trainer.evaluation.pairs_faces import (
    TRAINED,
    TrainingPairs,
    find_faces,
    leave_out,
    rejected_photos,
)
from facequarry.trainer.evaluation.pairs_file import NamedPairs, read_pairs_file
from tests.datasets.photos import publish_plainly
from tests.trainer.pairs_files import Rows, all_pairs, write_pairs, write_people

NAMES = ["Ann", "Bo", "Cé", "50%", "Eve.B"]
PARTS: dict[str, Part] = {"Ann": "train", "Bo": "tuning"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces of five people with three photos each; Bo's third photo is no image."""
    folder = tmp_path_factory.mktemp("pairs")
    photos = write_people(folder / "photos", dict.fromkeys(NAMES, 3))
    (photos / "Bo" / "Bo_0003.jpg").write_bytes(b"")
    publish_plainly(photos, folder / "faces")
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> FaceStore:
    return FaceStore.open(folder / "faces", folder / "cache")


@pytest.fixture(scope="module")
def rejected(folder: Path, store: FaceStore) -> dict[str, str]:
    return rejected_photos(folder / "faces", store.manifest)


@pytest.fixture
def named(tmp_path: Path) -> NamedPairs:
    return read_pairs_file(write_pairs(tmp_path / "pairs.txt", "5", all_pairs(NAMES)))


def part_of(identity: str) -> Part:
    return PARTS.get(identity, "held_out")


def test_faces_are_found_by_person_and_number(
    store: FaceStore, rejected: dict[str, str], named: NamedPairs
) -> None:
    pairs = find_faces(named, store, rejected)
    for side, names in ((pairs.left, named.left), (pairs.right, named.right)):
        assert store.sources(side) == [f"{photo.stem}.jpg" for photo in names]
    assert pairs.is_same.tolist() == [True] * 5 + [False] * 5
    assert pairs.rejected == {}
    assert len(pairs.face_indices) == 10


def test_pairs_of_rejected_photos_are_counted_by_reason(
    store: FaceStore, rejected: dict[str, str], tmp_path: Path
) -> None:
    rows: Rows = [("Bo", 1, 3), ("Ann", 1, 2), ("Bo", 3, "Ann", 1), ("Bo", 1, "Ann", 1)]
    named = read_pairs_file(write_pairs(tmp_path / "pairs.txt", "2", rows))
    pairs = find_faces(named, store, rejected)
    assert rejected == {"Bo/Bo_0003": "empty_file"}
    assert pairs.rejected == {"empty_file": 2}
    assert pairs.is_same.tolist() == [True, False]


def test_absent_people_and_photos_are_named(
    store: FaceStore, rejected: dict[str, str], tmp_path: Path
) -> None:
    rows: Rows = [("Zoe", 1, 2), ("Ann", 1, 4), ("Ann", 1, "Bo", 1), ("Ann", 9, "Zoe", 1)]
    named = read_pairs_file(write_pairs(tmp_path / "pairs.txt", "2", rows))
    sentence = (
        r"names 4 photos that were never ingested, 1 people .*: Zoe/Zoe_0001 \(no such person\), "
        r"Ann/Ann_0009, Zoe/Zoe_0002 \(no such person\), \.\.\.; ingest all"
    )
    with pytest.raises(ValueError, match=sentence):
        find_faces(named, store, rejected)


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    photos = write_people(tmp_path / "photos", {"Ann": 2, "Bo": 2})
    (photos / "Bo" / "Bo_0001.png").write_bytes((photos / "Bo" / "Bo_0001.jpg").read_bytes())
    publish_plainly(photos, tmp_path / "faces")
    twins = FaceStore.open(tmp_path / "faces", tmp_path / "cache")
    named = read_pairs_file(write_pairs(tmp_path / "p.txt", "2", all_pairs(["Ann", "Bo"])))
    with pytest.raises(ValueError, match="names Bo/Bo_0001, and two photos"):
        find_faces(named, twins, {})


def test_pairs_of_trained_people_are_refused(named: NamedPairs) -> None:
    with pytest.raises(TrainingPairs, match="3 of the 10 pairs .* touch 1 people .* other 7"):
        leave_out(named, part_of, held_out_only=False)


def test_the_others_are_kept_on_request(named: NamedPairs) -> None:
    kept, left_out = leave_out(named, part_of, held_out_only=True)
    assert left_out == {TRAINED: 3}
    assert len(kept) == 7
    assert "Ann" not in {photo.identity for photo in (*kept.left, *kept.right)}


def test_a_part_keeps_pairs_inside_it_alone(named: NamedPairs) -> None:
    kept, left_out = leave_out(named, part_of, held_out_only=True, part="held_out")
    assert left_out == {TRAINED: 3, "with people outside the held_out part": 2}
    assert {photo.identity for photo in kept.left} == {"Cé", "50%25", "Eve.B"}


def test_nobody_trained_on_leaves_nothing_out(named: NamedPairs) -> None:
    kept, left_out = leave_out(named, lambda _: "held_out", held_out_only=False)
    assert (len(kept), left_out) == (10, {})


def test_too_few_pairs_left_are_refused_with_the_counts(named: NamedPairs) -> None:
    with pytest.raises(ValueError, match=r"1 matched and 0 mismatched .*9 with people outside"):
        leave_out(named, lambda name: "tuning" if name == "Bo" else "held_out",
                  held_out_only=True, part="tuning")  # fmt: skip
