from __future__ import annotations

from pathlib import Path

import pytest

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.sources.archive import TarSource
from facequarry.datasets.sources.folder import FolderSource
from facequarry.datasets.sources.listing import Wanted, check_photos, open_source
from facequarry.datasets.sources.photos import Listing
from tests.datasets.photos import write_tree


def wanted(folder: Path, **options: object) -> Listing:
    config = IngestConfig(**options)  # type: ignore[arg-type]
    return Wanted.read(config).of(FolderSource(folder).scan())


def refuse(folder: Path, **options: object) -> str:
    source = FolderSource(folder)
    with pytest.raises(ValueError) as caught:
        check_photos(source, source.scan(), wanted(folder, **options))
    return str(caught.value)


def test_folder_and_archive_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b rest")
    assert isinstance(open_source(tmp_path, tmp_path / "cache"), FolderSource)
    assert isinstance(open_source(tmp_path / "a.tar.gz", tmp_path / "cache"), TarSource)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 zip", b"a text"])
def test_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "photos.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"photos.zip is a file, but no tar or tar.gz"):
        open_source(tmp_path / "photos.zip", tmp_path)


def test_absent_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder and no archive .*absent"):
        open_source(tmp_path / "absent", tmp_path)


def test_identities_with_few_photos_are_left_out_and_counted(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a": 1, "b": 3})
    (tmp_path / "loose.jpg").write_bytes(b"x")
    assert wanted(tmp_path).left_out == {"photos outside any identity's folder": 1}
    few = wanted(tmp_path, min_photos_per_identity=2)
    assert few.photos["identity"].to_pylist() == ["b"] * 3
    assert few.left_out == {
        "of an identity with too few photos": 1,
        "photos outside any identity's folder": 1,
    }


def test_lists_and_boxes_of_the_configuration_are_applied(tmp_path: Path) -> None:
    photos = write_tree(tmp_path / "photos", {"n1": 2, "n2": 1, "n3": 1})
    (tmp_path / "lfw.txt").write_text("Some_One\t3\nNobody\t1\n")
    (tmp_path / "meta.csv").write_text("Class_ID, Name, Sample_Num, Flag, Gender\r\n" * 1)
    with (tmp_path / "meta.csv").open("a") as file:
        file.write('n1, ""Other"", 2, 1, m\nn2, ""Some One"", 5, 1, f\nn3, ""Third"", 1, 1, m\n')
    (tmp_path / "boxes.csv").write_text('NAME_ID,X,Y,W,H\n"n1/0001_01",1,2,10,20\n')

    listing = wanted(
        photos,
        leave_out=tmp_path / "lfw.txt",
        identity_meta=tmp_path / "meta.csv",
        boxes=tmp_path / "boxes.csv",
    )

    assert listing.photos["identity"].to_pylist() == ["n1", "n1", "n3"]
    assert listing.photos["box"].to_pylist() == [[1, 2, 11, 22], None, None]
    assert listing.left_out == {"of an identity in the leave-out list": 1}
    assert listing.notes == {
        "names that are no identity here, such as Nobody": 1,
        "photos of these people that identity_meta counts beyond these": 4,
        "photos without a row in the box csv": 2,
    }


def test_leave_out_list_that_names_nobody_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = write_tree(tmp_path / "photos", {"n1": 2})
    (tmp_path / "lfw.txt").write_text("Some_One\n")
    assert len(wanted(photos, leave_out=tmp_path / "lfw.txt")) == 2
    (record,) = caplog.records
    assert "none of the 1 names in the leave-out list" in record.message
    assert "people's names need identity_meta.csv" in record.message


def test_sources_without_photos_say_what_was_found(tmp_path: Path) -> None:
    assert "(an empty folder), expected n000001/*.jpg; try: make demo" in refuse(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "(1 folders without images)" in refuse(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert "no identity folders in" in refuse(tmp_path)
    write_tree(tmp_path, {"a": 2})
    few = refuse(tmp_path, min_photos_per_identity=3)
    assert "none of the 2 photos" in few and "2 of an identity with too few photos" in few
