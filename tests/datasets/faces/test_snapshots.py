from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.disk.publish import MANIFEST, NewerSchema
from facequarry.datasets.faces.schema import IDENTITY_SCHEMA
from facequarry.datasets.faces.snapshots import (
    publish_snapshot,
    read_identities,
    read_snapshot,
    snapshot_folder,
)
from facequarry.datasets.ingest.plan import check_options, plan_ingest, sweep_unnamed_shards
from facequarry.datasets.ingest.shard_maker import ShardMaker
from facequarry.datasets.ingest.shard_tasks import face_options
from facequarry.datasets.sources.folder import FolderSource
from tests.datasets.photos import (
    WHOLE,
    bytes_of,
    listed,
    photos_in,
    publish_plainly,
    write_bad_photos,
    write_photo,
    write_tree,
)

_OPTIONS = face_options(WHOLE, make_detector(WHOLE))


def test_snapshot_names_its_shards_in_task_order(tmp_path: Path) -> None:
    source, root = write_tree(tmp_path / "photos", {"b": 3, "a": 7}), tmp_path / "faces"
    summaries = publish_plainly(source, root)

    snapshot = read_snapshot(root)

    assert [shard.summary for shard in snapshot.shards] == summaries
    assert [shard.first_face_index for shard in snapshot.shards] == [0, 4, 8]
    assert (snapshot.number, snapshot.num_faces, snapshot.num_photos) == (1, 10, 10)
    assert snapshot.options == _OPTIONS.to_json()
    assert read_identities(root, 1) == ["a", "b"]
    table = pq.read_table(snapshot_folder(root, 1) / "identities.parquet")
    assert table.schema.equals(IDENTITY_SCHEMA)
    assert table["num_faces"].to_pylist() == [7, 3]


def test_next_snapshot_only_adds(tmp_path: Path) -> None:
    source, root = write_tree(tmp_path / "photos", {"b": 5, "d": 1}), tmp_path / "faces"
    publish_plainly(source, root)
    before = bytes_of(root)
    write_tree(source, {"a": 1, "c": 2})
    write_photo(source / "b" / "0009_01.jpg", 5)
    publish_plainly(source, root)

    old, new = read_snapshot(root, 1), read_snapshot(root)

    assert new.number == 2
    assert new.shards[: len(old.shards)] == old.shards
    assert new.num_faces == 10
    assert read_identities(root, 2) == ["b", "d", "a", "c"]
    after = bytes_of(root)
    assert {name: after[name] for name in before} == before
    table = pq.read_table(snapshot_folder(root, 2) / "identities.parquet")
    assert table["num_faces"].to_pylist() == [6, 1, 1, 2]


def test_each_photo_is_once_in_shards_or_rejects(tmp_path: Path) -> None:
    source, root = write_tree(tmp_path / "photos", {"a": 5, "b": 6}), tmp_path / "faces"
    write_bad_photos(source / "a")
    publish_plainly(source, root)
    write_tree(source, {"c": 3})
    publish_plainly(source, root)
    found: list[str] = []
    for folder in ("shards", "rejects"):
        for path in (root / folder).glob("*.parquet"):
            found += pq.read_table(path)["source"].to_pylist()
    assert sorted(found) == [photo.source for photo in photos_in(source)]
    assert read_snapshot(root).num_photos == len(found)


def test_identity_without_a_face_gets_no_number(tmp_path: Path) -> None:
    source, root = write_tree(tmp_path / "photos", {"b": 1}), tmp_path / "faces"
    (source / "a").mkdir()
    (source / "a" / "1.jpg").write_bytes(b"")
    publish_plainly(source, root)
    assert read_identities(root, 1) == ["b"]
    assert read_snapshot(root).rejects == {"empty_file": 1}


def test_missing_snapshots_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no snapshot of faces under"):
        read_snapshot(tmp_path)
    publish_plainly(write_tree(tmp_path / "photos", {"a": 1}), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no snapshot 7 .*published: \[1\]"):
        read_snapshot(tmp_path, 7)


def test_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    publish_plainly(write_tree(tmp_path / "photos", {"a": 1}), tmp_path)
    path = snapshot_folder(tmp_path, 1) / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 2}))
    with pytest.raises(NewerSchema, match="install a newer facequarry"):
        read_snapshot(tmp_path)


def test_manifest_that_lacks_a_field_is_refused(tmp_path: Path) -> None:
    publish_plainly(write_tree(tmp_path / "photos", {"a": 1}), tmp_path)
    (snapshot_folder(tmp_path, 1) / MANIFEST).write_text('{"schema_version": 1}')
    with pytest.raises(ValueError, match="is no manifest of a snapshot: KeyError"):
        read_snapshot(tmp_path)


@pytest.mark.parametrize("finished", [(), (0,), (1, 2), (0, 1, 2, 3)])
def test_interrupted_work_is_taken_up_and_gives_the_same_bytes(
    tmp_path: Path, finished: tuple[int, ...]
) -> None:
    source = write_tree(tmp_path / "photos", {"a": 6, "b": 8})
    publish_plainly(source, tmp_path / "undisturbed")
    root = tmp_path / "interrupted"
    photos, maker = listed(source), ShardMaker(FolderSource(source), root, WHOLE)
    for task in plan_ingest(root, photos, None, _OPTIONS, 4).tasks:
        if task.index in finished:
            maker.make(task)

    plan = plan_ingest(root, photos, None, _OPTIONS, 4)
    publish_plainly(source, root)

    assert tuple(plan.finished) == finished
    assert bytes_of(root) == bytes_of(tmp_path / "undisturbed")


def test_finished_shards_are_used_although_photos_arrived(tmp_path: Path) -> None:
    source, root = write_tree(tmp_path / "photos", {"b": 8}), tmp_path / "faces"
    maker = ShardMaker(FolderSource(source), root, WHOLE)
    first, _ = plan_ingest(root, listed(source), None, _OPTIONS, 4).tasks
    maker.make(first)
    write_tree(source, {"a": 3})

    plan = plan_ingest(root, listed(source), None, _OPTIONS, 4)

    assert [summary.shard for summary in plan.finished.values()] == [first.shard]
    taken = sorted(photo for task in plan.tasks for photo in task.photos)
    assert taken == photos_in(source)
    assert [task.index for task in plan.tasks] == list(range(3))


@pytest.mark.parametrize("change", ["photo", "options", "torn", "absent"])
def test_finished_shard_that_no_longer_fits_is_made_again(tmp_path: Path, change: str) -> None:
    source, root = write_tree(tmp_path / "photos", {"a": 4}), tmp_path / "faces"
    (task,) = plan_ingest(root, listed(source), None, _OPTIONS, 4).tasks
    ShardMaker(FolderSource(source), root, WHOLE).make(task)
    options, shard = _OPTIONS, root / "shards" / f"{task.shard}.parquet"
    match change:
        case "photo":
            with (source / "a" / "0001_01.jpg").open("ab") as file:
                file.write(b"more")
        case "options":
            options = replace(options, crop_px=64)
        case "torn":
            shard.write_bytes(shard.read_bytes()[:100])
        case _:
            shard.unlink()
    assert plan_ingest(root, listed(source), None, options, 4).finished == {}


def test_other_options_of_the_detector_are_named_one_by_one(tmp_path: Path) -> None:
    options = face_options(IngestConfig(), make_detector(IngestConfig()))
    (shard,) = publish_plainly(write_tree(tmp_path / "photos", {"a": 1}), tmp_path)
    publish_snapshot(tmp_path, options.to_json(), [])
    other = replace(options, detector_options={"upsample": 0})
    with pytest.raises(ValueError, match=r"were made with detector's upsample 1 \(asked: 0\); use"):
        check_options(read_snapshot(tmp_path), other)


def test_boxes_are_for_all_faces_of_a_root_or_for_none(tmp_path: Path) -> None:
    publish_plainly(write_tree(tmp_path / "photos", {"a": 1}), tmp_path / "faces")
    boxes = replace(WHOLE, boxes=tmp_path / "boxes.csv")
    with pytest.raises(ValueError, match=r"made with choice largest \(asked: nearest_to_box\)"):
        check_options(read_snapshot(tmp_path / "faces"), face_options(boxes, make_detector(boxes)))


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe", b"[" * 100_000, b'{"options": null}', b'{"shards": 5}']
)
def test_damaged_manifest_is_one_sentence(tmp_path: Path, raw: bytes) -> None:
    publish_plainly(write_tree(tmp_path / "photos", {"a": 1}), tmp_path)
    (snapshot_folder(tmp_path, 1) / MANIFEST).write_bytes(raw)
    with pytest.raises(ValueError, match=r"manifest\.json is n"):
        read_snapshot(tmp_path)


def test_shards_that_no_snapshot_names_are_swept(tmp_path: Path) -> None:
    source, root = write_tree(tmp_path / "photos", {"a": 4}), tmp_path / "faces"
    other = replace(WHOLE, crop_px=16)
    options = face_options(other, make_detector(other))
    (task,) = plan_ingest(root, listed(source), None, options, 4).tasks
    ShardMaker(FolderSource(source), root, other).make(task)
    publish_plainly(source, root)
    (root / "rejects" / "0123456789abcdef.parquet").write_bytes(b"left by a killed maker")
    (root / "shards" / "thesis.parquet").write_bytes(b"not ours")
    assert sweep_unnamed_shards(root, read_snapshot(root)) == 2
    (root / "shards" / "thesis.parquet").unlink()
    publish_plainly(source, tmp_path / "clean")
    assert bytes_of(root) == bytes_of(tmp_path / "clean")


def test_other_options_are_refused_by_name(tmp_path: Path) -> None:
    publish_plainly(write_tree(tmp_path / "photos", {"a": 1}), tmp_path)
    check_options(read_snapshot(tmp_path), _OPTIONS)
    hog = IngestConfig(crop_px=32)
    with pytest.raises(ValueError, match=r"made with detector none \(asked: dlib-hog\)"):
        check_options(read_snapshot(tmp_path), face_options(hog, make_detector(hog)))


@pytest.mark.parametrize("damage", ["flipped", "torn", "absent", "no rejects", "torn rejects"])
def test_damaged_finished_shard_is_made_again_with_the_same_bytes(
    tmp_path: Path, damage: str
) -> None:
    source = write_tree(tmp_path / "photos", {"a": 4, "b": 3})
    publish_plainly(source, tmp_path / "undisturbed")
    root = tmp_path / "faces"
    task, _ = plan_ingest(root, listed(source), None, _OPTIONS, 4).tasks
    ShardMaker(FolderSource(source), root, WHOLE).make(task)
    shard = root / "shards" / f"{task.shard}.parquet"
    rejects = root / "rejects" / f"{task.shard}.parquet"
    raw = bytearray(shard.read_bytes())
    match damage:
        case "flipped":
            raw[len(raw) // 2] ^= 1
            shard.write_bytes(raw)
        case "torn":
            shard.write_bytes(raw[:100])
        case "absent":
            shard.unlink()
        case "no rejects":
            rejects.unlink()
        case _:
            rejects.write_bytes(rejects.read_bytes()[:50])
    publish_plainly(source, root)
    assert bytes_of(root) == bytes_of(tmp_path / "undisturbed")
