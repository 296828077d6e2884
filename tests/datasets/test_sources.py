from __future__ import annotations

import os
from pathlib import Path

import pytest

from datasets.schema import Reason, Rejected
from datasets.sources import list_photos, name_of, path_of, read_photo, scan_photos
from tests.datasets.photos import write_tree


def test_photos_are_listed_sorted_with_posix_sources(tmp_path: Path) -> None:
    write_tree(tmp_path, {"n000002": 2, "n000001": 1})
    (tmp_path / "n000001" / "notes.txt").write_text("no photo")
    (tmp_path / "n000001" / ".hidden.jpg").write_text("no photo")
    (tmp_path / "n000001" / "deeper.jpg").mkdir()
    (tmp_path / "readme.md").write_text("no identity")

    photos = list_photos(tmp_path)

    assert [(photo.identity, photo.source) for photo in photos] == [
        ("n000001", "n000001/0001_01.jpg"),
        ("n000002", "n000002/0001_01.jpg"),
        ("n000002", "n000002/0002_01.jpg"),
    ]
    first = tmp_path / "n000001" / "0001_01.jpg"
    assert photos[0].size_bytes == first.stat().st_size


def test_identities_with_few_photos_are_left_out(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 1, "b": 2})
    assert {photo.identity for photo in list_photos(tmp_path, min_photos_per_identity=2)} == {"b"}
    with pytest.raises(ValueError, match="none of the 2 identities .* has 3 photos"):
        list_photos(tmp_path, min_photos_per_identity=3)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder .*absent"):
        list_photos(tmp_path / "absent")


def test_empty_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no images under .*expected n000001/\*.jpg; try: make"):
        list_photos(tmp_path)


def test_photos_without_identity_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="no identity folders under .*: 1 photos lie in it"):
        list_photos(tmp_path)


def test_names_that_are_not_utf8_lead_back_to_their_file(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/Jos\xe9 100%/\xff%41.jpg"
    os.makedirs(os.path.dirname(raw))
    Path(os.fsdecode(raw)).write_bytes(b"photo")

    (photo,) = list_photos(tmp_path)

    assert photo.identity == "Jos%E9 100%25"
    assert photo.source == "Jos%E9 100%25/%FF%2541.jpg"
    assert read_photo(tmp_path, photo.source, max_bytes=100) == b"photo"


@pytest.mark.parametrize("name", ["plain.jpg", "José/ü.jpg", "50%/a%b.jpg", "\udcff/\udc80.jpg"])
def test_names_and_paths_are_inverse(name: str) -> None:
    named = name_of(name)
    assert path_of(named) == name
    named.encode("utf-8")


def test_large_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(101))
    with pytest.raises(Rejected) as caught:
        read_photo(tmp_path, "large.jpg", max_bytes=100)
    assert caught.value.reason is Reason.TOO_LARGE


def test_fifo_neither_blocks_nor_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(Rejected) as caught:
        read_photo(tmp_path, "pipe.jpg", max_bytes=100)
    assert caught.value.reason is Reason.UNREADABLE


def test_photos_that_are_left_out_are_counted(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 1, "b": 3})
    (tmp_path / "loose.jpg").write_bytes(b"x")
    assert scan_photos(tmp_path).left_out == {"outside any identity's folder": 1}
    left_out = scan_photos(tmp_path, min_photos_per_identity=2).left_out
    assert left_out == {
        "of an identity with too few photos": 1,
        "outside any identity's folder": 1,
    }
