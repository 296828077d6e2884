"""What an ingest does when its parts die, its memory runs out or its disk fills up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from facequarry.datasets.disk import publish
from facequarry.datasets.faces.shards import ShardSummary
from facequarry.datasets.faces.snapshots import snapshot_numbers
from facequarry.datasets.ingest.faces_root import CannotWrite
from facequarry.datasets.ingest.ingest import ingest
from facequarry.datasets.ingest.shard_maker import ShardMaker
from facequarry.datasets.ingest.shard_pool import ActorsDied
from facequarry.datasets.ingest.shard_tasks import ShardTask
from facequarry.datasets.sources.photos import Photo
from tests.datasets.photos import (
    WHOLE,
    bytes_of,
    publish_plainly,
)

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


class AlwaysDies(ShardMaker):
    """Its process ends at task 1, every time."""

    def make(
        self, task: ShardTask, crashed: Collection[str] = (), *, careful: bool = False
    ) -> ShardSummary:
        if task.index == 1:
            os._exit(1)
        return super().make(task, crashed, careful=careful)


class DiskFull(ShardMaker):
    """Finds the disk full at task 1: its shard is written to a device without room."""

    def make(
        self, task: ShardTask, crashed: Collection[str] = (), *, careful: bool = False
    ) -> ShardSummary:
        staging_path = publish._staging_path

        def on_a_full_disk(final: Path) -> Path:
            staging = staging_path(final)
            if final.parent.name == "shards":
                staging.symlink_to("/dev/full")
            return staging

        if task.index == 1:
            publish._staging_path = on_a_full_disk
        try:
            return super().make(task, crashed, careful=careful)
        finally:
            publish._staging_path = staging_path


class DiesOfAPhoto(ShardMaker):
    """Its process ends whenever it looks at one of two photos."""

    def _face_of(self, photo: Photo, raw: bytes) -> dict[str, Any]:
        if photo.source in ("a/0006_01.jpg", "b/0001_01.jpg"):
            os._exit(1)
        return super()._face_of(photo, raw)


class DiesNearPhotos(ShardMaker):
    """Its process ends four times, each time at another photo of task 1, or at none."""

    def _face_of(self, photo: Photo, raw: bytes) -> dict[str, Any]:
        deaths = self._root / "deaths"
        count = len(deaths.read_text()) if deaths.exists() else 0
        if (count, photo.source) in enumerate(
            ("a/0005_01.jpg", "a/0006_01.jpg", "b/0001_01.jpg", "a/0006_01.jpg")
        ):
            deaths.write_text("x" * (count + 1))
            os._exit(1)
        return super()._face_of(photo, raw)


class OutOfMemory(ShardMaker):
    """Has no memory for one photo."""

    def _face_of(self, photo: Photo, raw: bytes) -> dict[str, Any]:
        if photo.source == "a/0006_01.jpg":
            raise MemoryError("std::bad_alloc")
        return super()._face_of(photo, raw)


KILLED = """
import os, signal, sys
from pathlib import Path

import ray

from facequarry.datasets.ingest.ingest import ingest
from tests.datasets.photos import WHOLE


def kill(progress):
    if progress.shards == 2:
        os.kill(os.getpid(), signal.SIGKILL)


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
ingest(Path(sys.argv[1]), Path(sys.argv[2]), WHOLE, kill)
"""


def test_shard_whose_actors_die_again_and_again_ends_with_its_name(
    source: Path, tmp_path: Path
) -> None:
    config = replace(WHOLE, shard_retries=1)
    with pytest.raises(ActorsDied, match=r"died 2 times, and not at one photo .* from a/0005"):
        ingest(source, tmp_path / "faces", config, maker=AlwaysDies)
    assert snapshot_numbers(tmp_path / "faces") == []


def test_photos_that_kill_their_process_are_rejected(source: Path, tmp_path: Path) -> None:
    config = replace(WHOLE, shard_retries=1)
    report = ingest(source, tmp_path / "faces", config, maker=DiesOfAPhoto)
    assert (report.photos, report.faces, report.rejects["crashed"]) == (20, 13, 2)
    rejects = pq.read_table(tmp_path / "faces" / "rejects").to_pylist()
    assert {row["source"] for row in rejects if row["reason"] == "crashed"} == {
        "a/0006_01.jpg",
        "b/0001_01.jpg",
    }
    assert not list((tmp_path / "faces" / "shards").glob("*.in-hand"))
    assert not ingest(source, tmp_path / "faces", config, maker=DiesOfAPhoto).is_published


def test_photo_that_was_only_near_a_death_is_kept(source: Path, tmp_path: Path) -> None:
    publish_plainly(source, tmp_path / "plain")
    config = replace(WHOLE, shard_retries=1)
    ingest(source, tmp_path / "faces", config, maker=DiesNearPhotos)
    assert bytes_of(tmp_path / "faces") == bytes_of(tmp_path / "plain")


def test_memory_that_runs_out_is_a_death_of_the_actor(source: Path, tmp_path: Path) -> None:
    config = replace(WHOLE, shard_retries=1)
    report = ingest(source, tmp_path / "faces", config, maker=OutOfMemory)
    assert (report.faces, report.rejects["crashed"]) == (14, 1)


def test_full_disk_ends_the_ingest_and_nothing_is_published(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    with pytest.raises(CannotWrite, match=r"No space left on device: cannot write into .*/faces;"):
        ingest(source, root, WHOLE, maker=DiskFull)
    assert snapshot_numbers(root) == []
    assert ingest(source, root, WHOLE).shards_reused >= 1
    assert not [path for path in root.rglob("*") if path.name.startswith(".staging")]
    publish_plainly(source, tmp_path / "plain")
    assert bytes_of(root) == bytes_of(tmp_path / "plain")


def test_full_disk_of_the_driver_says_where(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **fields: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("facequarry.datasets.ingest.tally.EventLog.write", fail)
    with pytest.raises(CannotWrite, match=r"No space left on device: cannot write into .*/faces;"):
        ingest(source, tmp_path / "faces", WHOLE)


def test_killed_driver_is_gone_on_from(source: Path, tmp_path: Path) -> None:
    publish_plainly(source, tmp_path / "plain")
    root = tmp_path / "faces"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(root)], capture_output=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert snapshot_numbers(root) == []
    report = ingest(source, root, replace(WHOLE, actors=2))
    assert report.shards_reused >= 2
    assert bytes_of(root) == bytes_of(tmp_path / "plain")
