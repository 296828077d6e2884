from __future__ import annotations

from pathlib import Path

import pytest

from facequarry.datasets.disk.errors import BAD_INPUT, DONE, INTERRUPTED
from facequarry.datasets.faces.snapshots import snapshot_numbers
from facequarry.datasets.ingest.ingest import Ingest
from facequarry.datasets.sources.photos import Listing, OnListing
from facequarry.jobs.cli import main
from tests.datasets.photos import pack, write_bad_photos, write_tree

PLAIN = ["--detector", "none", "--crop-px", "32", "--actors", "1"]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ingest_prints_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    source, out = write_tree(tmp_path / "photos", {"a": 3, "b": 1}), tmp_path / "faces"
    write_bad_photos(source / "a")
    (source / "a" / "notes.txt").write_text("no photo")
    (tmp_path / "keep.txt").write_text("a\nnobody\n")
    flags = ["ingest", "--source", str(source), "--out", str(out), *PLAIN]
    flags += ["--keep", str(tmp_path / "keep.txt")]
    assert main(flags) == DONE
    printed = capsys.readouterr().out
    for row in (
        "1 (published)",
        "8, 8 of them looked at now",
        "corrupt 1, empty_file 1, not_an_image 1, truncated 1, unreadable 1",
        "of an identity that is not in the keep list",
        "files without an image's suffix",
        "such as nobody",
        "rejects.png",
    ):
        assert row in printed
    assert main(flags) == DONE
    assert "1 (nothing new, the snapshot stays)" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_following_ends_with_ctrl_c_and_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = write_tree(tmp_path / "photos", {"a": 2}), tmp_path / "faces"
    look, looks = Ingest.look, []

    def three_times(
        work: Ingest, on_listing: OnListing | None = None, *, more_to_come: bool = False
    ) -> Listing:
        looks.append(1)
        if len(looks) == 4:
            raise KeyboardInterrupt
        return look(work, on_listing, more_to_come=more_to_come)

    monkeypatch.setattr(Ingest, "look", three_times)
    flags = ["ingest", "--source", str(source), "--out", str(out), *PLAIN]
    flags += ["--follow", "--settle-s", "0.001", "--every-s", "0.001"]
    assert main(flags) == INTERRUPTED
    printed = capsys.readouterr()
    assert (
        "watching" in printed.err
        and "snapshot 1: 2 photos looked at; in all 2 faces" in printed.err
    )
    assert "the same command goes on from it" in printed.err
    assert "2, 2 of them looked at now" in printed.out
    assert snapshot_numbers(out) == [1]


def test_archive_cannot_be_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = pack(write_tree(tmp_path / "photos", {"a": 1}), tmp_path / "photos.tar")
    flags = ["ingest", "--source", str(archive), "--out", str(tmp_path / "faces"), "--follow"]
    assert main(flags) == BAD_INPUT
    assert "--follow watches a folder" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_bad_sources_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "photos.tar").write_bytes(content)
    flags = ["ingest", "--source", str(tmp_path / "photos.tar"), "--out", str(tmp_path / "faces")]
    assert main(flags) == BAD_INPUT
    assert "no tar or tar.gz" in capsys.readouterr().err
    assert not (tmp_path / "faces").exists()


def test_source_without_photos_leaves_no_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    flags = ["ingest", "--source", str(tmp_path / "photos"), "--out", str(tmp_path / "faces")]
    assert main(flags) == BAD_INPUT
    assert "try: make demo" in capsys.readouterr().err
    assert not (tmp_path / "faces").exists()
