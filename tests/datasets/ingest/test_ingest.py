from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.lock import LockHeld, WriterLock
from facequarry.datasets.faces.schema import CorruptShard
from facequarry.datasets.faces.shards import ShardSummary
from facequarry.datasets.faces.snapshots import snapshot_numbers
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.ingest.faces_root import CannotWrite
from facequarry.datasets.ingest.ingest import NoFaces, ingest
from facequarry.datasets.ingest.shard_maker import ShardMaker
from facequarry.datasets.ingest.shard_tasks import ShardTask
from facequarry.datasets.ingest.tally import IngestProgress
from facequarry.datasets.runs.events import read_events
from tests.datasets.photos import (
    WHOLE,
    bytes_of,
    pack,
    photos_in,
    publish_plainly,
    write_tree,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


class DiesOnce(ShardMaker):
    """Its process ends in the middle of task 1, once for each root."""

    def make(
        self, task: ShardTask, crashed: Collection[str] = (), *, careful: bool = False
    ) -> ShardSummary:
        died = self._root / "died"
        if task.index == 1 and not died.exists():
            died.touch()
            (self._root / "shards").mkdir(exist_ok=True)
            (self._root / "shards" / f"{task.shard}.parquet").write_bytes(b"half")
            os._exit(1)
        return super().make(task, crashed, careful=careful)


@pytest.mark.parametrize("actors", [1, 2])
def test_result_is_the_same_for_any_number_of_actors_and_deaths(
    source: Path, tmp_path: Path, actors: int
) -> None:
    publish_plainly(source, tmp_path / "plain")
    config = replace(WHOLE, actors=actors)
    report = ingest(source, tmp_path / "whole", config)
    disturbed = ingest(source, tmp_path / "disturbed", config, maker=DiesOnce)

    assert (tmp_path / "disturbed" / "died").exists()
    assert bytes_of(tmp_path / "whole") == bytes_of(tmp_path / "plain")
    assert bytes_of(tmp_path / "disturbed") == bytes_of(tmp_path / "plain")
    assert (report.photos, report.faces, report.identities) == (20, 15, 3)
    assert sum(report.rejects.values()) == 5
    assert (report.snapshot, report.is_published, report.new_photos) == (1, True, 20)
    assert (report.shards_made, disturbed.shards_made, disturbed.shards_reused) == (5, 5, 0)
    assert all(path.is_file() for path in report.pictures)
    assert len(report.pictures) == 2


@pytest.mark.parametrize("actors", [1, 2])
def test_stopped_ingest_goes_on_and_gives_the_same_bytes(
    source: Path, tmp_path: Path, actors: int
) -> None:
    publish_plainly(source, tmp_path / "plain")
    root, config = tmp_path / "faces", replace(WHOLE, actors=actors)
    seen: list[IngestProgress] = []

    def interrupt(progress: IngestProgress) -> None:
        seen.append(progress)
        if progress.shards == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(source, root, config, interrupt)
    assert snapshot_numbers(root) == []
    (root / "shards" / ".staging-host-1-half.parquet").write_bytes(b"half")

    seen.clear()
    report = ingest(source, root, config, seen.append)

    assert bytes_of(root) == bytes_of(tmp_path / "plain")
    assert report.shards_reused >= 2
    assert report.shards_made == 5 - report.shards_reused
    assert seen[0].shards == report.shards_reused
    assert (seen[-1].photos, seen[-1].total_photos, seen[-1].faces) == (20, 20, 15)
    assert (seen[0].eta_s, seen[-1].eta_s) == (None, 0)
    events = read_events(root / "events", "ingest")
    assert [event["attempt"] for event in events] == sorted(event["attempt"] for event in events)
    assert [event["reason"] for event in events if event["event"] == "stopped"] == [
        "KeyboardInterrupt: "
    ]
    assert (events[-1]["event"], events[-1]["attempt"]) == ("published", 2)


def test_actors_that_find_no_cpu_hold_nothing_back(source: Path, tmp_path: Path) -> None:
    publish_plainly(source, tmp_path / "plain")
    ingest(source, tmp_path / "faces", replace(WHOLE, actors=5))
    assert bytes_of(tmp_path / "faces") == bytes_of(tmp_path / "plain")


def test_nothing_new_publishes_nothing_and_new_photos_are_added(
    source: Path, tmp_path: Path
) -> None:
    root = tmp_path / "faces"
    ingest(source, root, WHOLE)
    before = bytes_of(root)

    again = ingest(source, root, WHOLE)

    assert read_events(root / "events", "ingest")[-1]["event"] == "unchanged"
    assert (again.snapshot, again.is_published, again.new_photos) == (1, False, 0)
    assert (again.photos, again.faces, again.shards_made) == (20, 15, 0)
    assert bytes_of(root) == before

    write_tree(source, {"aa": 2})
    more = ingest(source, root, WHOLE)
    assert (more.snapshot, more.is_published, more.new_photos) == (2, True, 2)
    assert (more.photos, more.faces, more.shards_made) == (22, 17, 1)
    after = bytes_of(root)
    assert {name: after[name] for name in before} == before
    store = FaceStore.open(root, tmp_path / "cache")
    assert store.identities == ["a", "b", "c", "aa"]
    assert store.sources([15, 16]) == ["aa/0001_01.jpg", "aa/0002_01.jpg"]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_archive_gives_the_bytes_of_its_folder(source: Path, tmp_path: Path, suffix: str) -> None:
    (source / "b" / "loop.jpg").unlink()
    publish_plainly(source, tmp_path / "plain")
    archive = pack(source, tmp_path / f"photos.{suffix}")
    report = ingest(archive, tmp_path / "faces", replace(WHOLE, actors=2))
    assert (report.photos, report.faces, len(report.pictures)) == (19, 15, 2)
    assert bytes_of(tmp_path / "faces") == bytes_of(tmp_path / "plain")
    assert not ingest(archive, tmp_path / "faces", WHOLE).is_published


def test_output_that_cannot_be_written_is_one_sentence(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInput, match=r"file is a file; name a folder to put the faces"):
        ingest(source, tmp_path / "file" / "faces", WHOLE)
    with pytest.raises(CannotWrite, match=r"cannot write into /proc/faces; make room, lend the"):
        ingest(source, Path("/proc/faces"), WHOLE)


def test_output_in_the_source_or_among_other_things_is_refused(
    source: Path, tmp_path: Path
) -> None:
    for out in (source, source / "faces"):
        with pytest.raises(ValueError, match="lies in the source .*; name a folder outside of it"):
            ingest(source, out, WHOLE)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"holds other things than faces, such as letter.txt"):
        ingest(source, tmp_path / "home", WHOLE)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_contact_sheet_that_fails_does_not_undo_the_snapshot(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facequarry.datasets.ingest.ingest.write_faces_page", fail)
    report = ingest(source, tmp_path / "faces", WHOLE)
    assert (report.is_published, report.pictures) == (True, ())
    assert read_events(tmp_path / "faces" / "events", "ingest")[-1]["event"] == "published"


def test_second_writer_is_refused(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    with (
        WriterLock(root / ".writer.lock"),
        pytest.raises(LockHeld, match=f"held by process {os.getpid()}"),
    ):
        ingest(source, root, WHOLE)
    assert not (root / "events").exists()


def test_source_without_a_face_is_an_error_with_counts(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"a": 3})
    (source / "a" / "empty.jpg").write_bytes(b"")
    hog = IngestConfig(actors=1)
    with pytest.raises(NoFaces, match=r"none of 4 photos gave a face \(empty_file 1, no_face 3\)"):
        ingest(source, tmp_path / "faces", hog)
    assert not (tmp_path / "faces").exists()
    report = ingest(source, tmp_path / "faces", WHOLE)
    assert (report.faces, report.rejects) == (3, {"empty_file": 1})


def test_other_options_are_refused(source: Path, tmp_path: Path) -> None:
    ingest(source, tmp_path / "faces", WHOLE)
    before = bytes_of(tmp_path / "faces")
    with pytest.raises(ValueError, match=r"made with crop_px 32 \(asked: 48\)"):
        ingest(source, tmp_path / "faces", replace(WHOLE, crop_px=48))
    assert bytes_of(tmp_path / "faces") == before


def test_missing_source_leaves_no_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ingest(tmp_path / "absent", tmp_path / "faces", WHOLE)
    assert not (tmp_path / "faces").exists()


@pytest.mark.real_data
def test_lfw_people_are_found(real_data: Path, tmp_path: Path) -> None:
    images = real_data / "lfw_devtrain" / "images"
    source = tmp_path / "photos"
    for photo in photos_in(images)[:60]:
        (source / photo.identity).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(images / photo.source, source / photo.source)
    report = ingest(source, tmp_path / "faces", IngestConfig(photos_per_shard=20, actors=2))
    assert report.photos == 60
    assert report.faces >= 57
    assert set(report.rejects) <= {"no_face"}
    store = FaceStore.open(tmp_path / "faces", tmp_path / "cache")
    assert store.decode(range(report.faces)).shape == (report.faces, 160, 160, 3)


@pytest.mark.real_data
def test_vggface2_sample_is_ingested_in_its_own_layout(real_data: Path, tmp_path: Path) -> None:
    report = ingest(real_data / "vggface2_sample", tmp_path, IngestConfig(actors=1))
    assert (report.photos, report.identities) == (32, 3)
    assert report.faces >= 30
    page = cv2.imread(str(tmp_path / "pictures" / "faces.png"))
    assert page is not None
    store = FaceStore.open(tmp_path, tmp_path / "cache")
    assert store.identities == ["n000106", "n007241", "n008937"]
    assert store.sources([0]) == ["n000106/0001_03.jpg"]


def test_corrupt_shard_of_an_ingest_is_refused_by_the_store(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    ingest(source, root, WHOLE)
    shard = sorted((root / "shards").glob("*.parquet"))[0]
    shard.write_bytes(shard.read_bytes() + b"x")
    with pytest.raises(CorruptShard):
        FaceStore.open(root, tmp_path / "cache")
