from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.disk.publish import NewerSchema, sha256_file, write_json
from facequarry.datasets.faces.jpeg import decode_jpeg
from facequarry.datasets.faces.schema import FACE_SCHEMA, REJECT_SCHEMA, FaceOptions
from facequarry.datasets.faces.shards import read_summary
from facequarry.datasets.ingest.shard_maker import ShardMaker
from facequarry.datasets.ingest.shard_tasks import ShardTask, face_options, plan_tasks
from facequarry.datasets.sources.folder import FolderSource
from tests.datasets.photos import (
    WHOLE,
    bytes_of,
    listed,
    photos_in,
    write_bad_photos,
    write_tree,
)


def _options(config: IngestConfig = WHOLE) -> FaceOptions:
    return face_options(config, make_detector(config))


def _plan(source: Path, config: IngestConfig = WHOLE) -> list[ShardTask]:
    return plan_tasks(listed(source), _options(config), config.photos_per_shard)


def test_shard_has_the_contracts_columns(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"n1": 2, "n2": 1})
    (task,) = _plan(source)

    summary = ShardMaker(FolderSource(source), tmp_path / "faces", WHOLE).make(task)

    path = tmp_path / "faces" / "shards" / f"{task.shard}.parquet"
    table = pq.read_table(path)
    assert table.schema.names == FACE_SCHEMA.names
    assert [field.type for field in table.schema] == [field.type for field in FACE_SCHEMA]
    rows = table.to_pylist()
    assert [(row["identity"], row["source"]) for row in rows] == [
        ("n1", "n1/0001_01.jpg"),
        ("n1", "n1/0002_01.jpg"),
        ("n2", "n2/0001_01.jpg"),
    ]
    first = rows[0]
    assert (first["width"], first["height"], first["box"]) == (40, 48, [0, 0, 40, 48])
    assert (first["landmarks"], first["score"], first["num_faces_in_source"]) == (None, 1.0, 1)
    raw = (source / first["source"]).read_bytes()
    assert first["source_sha256"] == hashlib.sha256(raw).hexdigest()
    assert decode_jpeg(first["image"]).shape == (32, 32, 3)
    assert (summary.rows, summary.rejects) == (3, {})
    assert (summary.bytes, summary.sha256) == (path.stat().st_size, sha256_file(path))
    assert summary == read_summary(tmp_path / "faces", task.shard)


def test_crops_are_stored_in_small_row_groups_without_a_codec(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"n1": 130})
    config = replace(WHOLE, photos_per_shard=200)
    (task,) = _plan(source, config)
    ShardMaker(FolderSource(source), tmp_path, config).make(task)
    meta = pq.ParquetFile(tmp_path / "shards" / f"{task.shard}.parquet").metadata
    assert [meta.row_group(group).num_rows for group in range(3)] == [64, 64, 2]
    columns = [meta.row_group(0).column(index) for index in range(meta.num_columns)]
    codecs = {column.path_in_schema: column.compression for column in columns}
    assert codecs["image"] == "UNCOMPRESSED"
    assert codecs["box.list.element"] == "SNAPPY"


def test_bad_photos_are_counted_with_their_reasons(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"n1": 1})
    reasons = write_bad_photos(source / "n1")
    config = replace(WHOLE, photos_per_shard=100)
    (task,) = _plan(source, config)

    summary = ShardMaker(FolderSource(source), tmp_path, config).make(task)

    table = pq.read_table(tmp_path / "rejects" / f"{task.shard}.parquet")
    assert table.schema.equals(REJECT_SCHEMA)
    assert {row["source"]: row["reason"] for row in table.to_pylist()} == {
        f"n1/{name}": reason for name, reason in reasons.items()
    }
    assert all(row["detail"] and row["identity"] == "n1" for row in table.to_pylist())
    assert summary.rows == 1
    assert summary.rejects == {reason: 1 for reason in sorted(reasons.values())}
    assert summary.num_photos == task.num_photos


def test_small_faces_and_large_files_are_rejected(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"n1": 1})
    (source / "n1" / "large.jpg").write_bytes(bytes((1 << 20) + 1))
    config = replace(WHOLE, min_face_px=41, max_file_mib=1)
    (task,) = _plan(source, config)
    summary = ShardMaker(FolderSource(source), tmp_path, config).make(task)
    assert (summary.rows, summary.rejects) == (0, {"too_large": 1, "too_small": 1})


def test_photo_without_a_face_is_rejected(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"n1": 1})
    (task,) = _plan(source, IngestConfig())
    assert ShardMaker(FolderSource(source), tmp_path, IngestConfig()).make(task).rejects == {
        "no_face": 1
    }


def test_detector_that_fails_on_a_photo_does_not_end_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_tree(tmp_path / "photos", {"n1": 2})
    (task,) = _plan(source)
    maker = ShardMaker(FolderSource(source), tmp_path, WHOLE)

    def fail(image: object) -> None:
        raise RuntimeError("bad luck")

    monkeypatch.setattr(maker._detector, "detect", fail)
    assert maker.make(task).rejects == {"failed": 2}


def test_finished_shard_is_not_made_again(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"n1": 2})
    (task,) = _plan(source)
    first = ShardMaker(FolderSource(source), tmp_path, WHOLE).make(task)
    path = tmp_path / "shards" / f"{task.shard}.parquet"
    before = path.stat()
    assert ShardMaker(FolderSource(source), tmp_path, WHOLE).make(task) == first
    assert path.stat().st_ino == before.st_ino


def test_half_made_shard_is_replaced_by_the_same_bytes(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"n1": 2})
    (task,) = _plan(source)
    ShardMaker(FolderSource(source), tmp_path / "whole", WHOLE).make(task)
    half = tmp_path / "half"
    (half / "shards").mkdir(parents=True)
    (half / "shards" / f"{task.shard}.parquet").write_bytes(b"torn")
    ShardMaker(FolderSource(source), half, WHOLE).make(task)
    assert bytes_of(half) == bytes_of(tmp_path / "whole")


def test_digest_follows_photos_sizes_and_options() -> None:
    photos = pa.Table.from_pylist(
        [
            {"identity": "a", "source": f"a/{name}.jpg", "size_bytes": 10, "box": None}
            | {"offset_bytes": 0, "modified_ns": 0, "retried_after": None}
            for name in "12"
        ]
    )
    sizes, boxes = pa.array([10, 11]), pa.array([None, [0.0, 0.0, 9.0, 9.0]])
    again, elsewhere = pa.array([None, 1]), pa.array([512, 4096])
    wider = replace(WHOLE, crop_px=64)
    names = [
        plan_tasks(some, options, 2)[0].shard
        for some, options in [
            (photos, _options()),
            (photos.slice(0, 1), _options()),
            (photos.set_column(2, "size_bytes", sizes), _options()),
            (photos.set_column(3, "box", boxes), _options()),
            (photos.set_column(6, "retried_after", again), _options()),
            (photos, _options(wider)),
        ]
    ]
    assert len(set(names)) == 6
    moved = photos.set_column(4, "offset_bytes", elsewhere)
    assert plan_tasks(moved, _options(), 2)[0].shard == names[0]


def test_tasks_keep_order_and_hold_every_photo_once(tmp_path: Path) -> None:
    source = write_tree(tmp_path, {"a": 5, "b": 4})
    tasks = plan_tasks(listed(source), _options(), 4)
    assert [task.num_photos for task in tasks] == [4, 4, 1]
    assert [photo for task in tasks for photo in task.photos] == photos_in(source)


def test_summary_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "shards" / "abc.json", {"schema_version": 99})
    with pytest.raises(NewerSchema, match="schema_version 99"):
        read_summary(tmp_path, "abc")
    assert read_summary(tmp_path, "never") is None


def test_empty_tables_keep_their_schema(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"n1": 1})
    (source / "n1" / "0001_01.jpg").write_bytes(b"")
    (task,) = _plan(source)
    ShardMaker(FolderSource(source), tmp_path, WHOLE).make(task)
    table: pa.Table = pq.read_table(tmp_path / "shards" / f"{task.shard}.parquet")
    assert (table.num_rows, table.schema.names) == (0, FACE_SCHEMA.names)
