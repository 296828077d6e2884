from __future__ import annotations

import os
from pathlib import Path

import pytest

from facequarry.datasets.faces.schema import Reason, Rejected
from facequarry.datasets.sources.folder import FolderSource
from facequarry.datasets.sources.photos import Photo, name_of, path_of
from tests.datasets.photos import photos_in, write_tree


def refusal(folder: Path, name: str, *, max_bytes: int = 100) -> Reason:
    with pytest.raises(Rejected) as caught:
        FolderSource(folder).read(Photo("a", name, 0), max_bytes=max_bytes)
    return caught.value.reason


def test_photos_are_listed_sorted_with_posix_sources(tmp_path: Path) -> None:
    write_tree(tmp_path, {"n000002": 2, "n000001": 1})
    (tmp_path / "n000001" / "notes.txt").write_text("no photo")
    (tmp_path / "n000001" / ".hidden.jpg").write_text("no photo")
    (tmp_path / "n000001" / "deeper.jpg").mkdir()
    (tmp_path / "readme.md").write_text("no identity")

    photos = photos_in(tmp_path)

    assert [(photo.identity, photo.source) for photo in photos] == [
        ("n000001", "n000001/0001_01.jpg"),
        ("n000002", "n000002/0001_01.jpg"),
        ("n000002", "n000002/0002_01.jpg"),
    ]
    assert FolderSource(tmp_path).scan().left_out == {
        "files without an image's suffix": 1,
        "photos or folders below an identity's folder": 1,
    }
    first = tmp_path / "n000001" / "0001_01.jpg"
    assert photos[0].size_bytes == first.stat().st_size


def test_listing_says_when_a_file_was_written_and_how_far_it_is(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 1, "b": 1})
    os.utime(tmp_path / "a" / "0001_01.jpg", ns=(5, 5))
    shares: list[float] = []
    table = FolderSource(tmp_path).scan(shares.append).photos
    assert table["modified_ns"].to_pylist()[0] == 5
    assert shares == [0.5, 1.0]


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder .*absent"):
        FolderSource(tmp_path / "absent").scan()


def test_names_that_are_not_utf8_lead_back_to_their_file(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/Jos\xe9 100%/\xff%41.jpg"
    os.makedirs(os.path.dirname(raw))
    Path(os.fsdecode(raw)).write_bytes(b"photo")

    (photo,) = photos_in(tmp_path)

    assert photo.identity == "Jos%E9 100%25"
    assert photo.source == "Jos%E9 100%25/%FF%2541.jpg"
    assert FolderSource(tmp_path).read(photo, max_bytes=100) == b"photo"


@pytest.mark.parametrize("name", ["plain.jpg", "José/ü.jpg", "50%/a%b.jpg", "\udcff/\udc80.jpg"])
def test_names_and_paths_are_inverse(name: str) -> None:
    named = name_of(name)
    assert path_of(named) == name
    named.encode("utf-8")


def test_large_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(101))
    assert refusal(tmp_path, "large.jpg") is Reason.TOO_LARGE


def test_fifo_neither_blocks_nor_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refusal(tmp_path, "pipe.jpg") is Reason.UNREADABLE


def test_file_that_went_after_the_listing_is_unreadable(tmp_path: Path) -> None:
    assert refusal(tmp_path, "gone.jpg") is Reason.UNREADABLE


def test_links_that_lead_in_circles_end(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 1})
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "a" / "self.jpg").symlink_to("self.jpg")
    listing = FolderSource(tmp_path).scan()
    assert listing.photos["source"].to_pylist() == ["a/0001_01.jpg", "a/self.jpg"]
    assert refusal(tmp_path, "a/self.jpg") is Reason.UNREADABLE


def test_photos_outside_identity_folders_are_counted(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 1})
    (tmp_path / "loose.jpg").write_bytes(b"x")
    assert FolderSource(tmp_path).scan().left_out == {"photos outside any identity's folder": 1}


def test_identity_folder_that_cannot_be_read_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, {"a": 1, "b": 1})
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr("facequarry.datasets.sources.folder.os.scandir", refuse)
    listing = FolderSource(tmp_path).scan()
    assert listing.photos["identity"].to_pylist() == ["a"]
    assert listing.left_out == {"identity folders that cannot be read": 1}
