from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import cv2
import numpy as np
import pytest

from facequarry.datasets.disk.publish import sha256_file
from facequarry.datasets.faces import store as faces_module
from facequarry.datasets.faces.jpeg import decode_jpeg
from facequarry.datasets.faces.schema import CorruptShard
from facequarry.datasets.faces.snapshots import read_snapshot
from facequarry.datasets.faces.store import FaceStore
from tests.datasets.photos import publish_plainly, write_bad_photos, write_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Snapshot 1: nine faces of two identities in four shards, one of them without faces."""
    source = write_tree(tmp_path / "photos", {"a": 4, "c": 5})
    (source / "b").mkdir()
    for number in range(4):
        (source / "b" / f"{number}.jpg").write_bytes(b"")
    publish_plainly(source, tmp_path / "faces")
    return tmp_path / "faces"


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Shards that are copied into a cache, one entry a copy."""
    return _count_copies(monkeypatch.setattr)


def _count_copies(setattr: Callable[[object, str, object], None]) -> list[str]:
    copied: list[str] = []

    def counted(path: Path) -> str:
        copied.append(path.stem)
        return sha256_file(path)

    setattr(faces_module, "sha256_file", counted)  # once for each copy
    return copied


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_faces_are_read_by_face_index(root: Path, tmp_path: Path, workers: int) -> None:
    store = FaceStore.open(root, tmp_path / "cache", workers=workers)

    assert (store.num_faces, store.crop_px, store.identities) == (9, 32, ["a", "c"])
    assert store.identity_index.tolist() == [0] * 4 + [1] * 5
    assert store.identity_index.dtype == np.int32
    assert store.sources([8, 0, 4]) == ["c/0005_01.jpg", "a/0001_01.jpg", "c/0001_01.jpg"]
    faces = store.decode(np.array([8, 0, 0]))
    assert faces.shape == (3, 32, 32, 3)
    assert faces.dtype == np.uint8
    assert np.array_equal(faces[0], decode_jpeg(store.jpeg(8)))
    assert np.array_equal(faces[1], faces[2])
    assert not np.array_equal(faces[0], faces[1])
    assert store.decode([]).shape == (0, 32, 32, 3)
    assert store.manifest == read_snapshot(root)


@pytest.mark.parametrize("face_index", [-1, 9])
def test_face_index_out_of_range_is_refused(root: Path, tmp_path: Path, face_index: int) -> None:
    store = FaceStore.open(root, tmp_path / "cache")
    for read in (store.sources, store.decode):
        with pytest.raises(IndexError, match=f"face_index {face_index} is out of range 0..8"):
            read([face_index])
    with pytest.raises(IndexError):
        store.jpeg(face_index)


def test_faces_are_the_pixels_that_opencv_decodes(root: Path, tmp_path: Path) -> None:
    store = FaceStore.open(root, tmp_path / "cache")
    for face_index, face in enumerate(store.decode(range(9))):
        jpeg = np.frombuffer(store.jpeg(face_index), np.uint8)
        bgr = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
        assert bgr is not None
        assert np.array_equal(face, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))


def test_next_snapshot_adds_only_its_new_shards_to_the_cache(
    root: Path, tmp_path: Path, copied: list[str]
) -> None:
    cache = tmp_path / "cache"
    old = FaceStore.open(root, cache)
    before = {shard.summary.shard for shard in old.manifest.shards}
    assert sorted(copied) == sorted(before)
    copied.clear()
    write_tree(tmp_path / "photos", {"b": 2})
    publish_plainly(tmp_path / "photos", root)

    new = FaceStore.open(root, cache)

    assert (new.num_faces, new.identities) == (11, ["a", "c", "b"])
    assert np.array_equal(new.decode(range(9)), old.decode(range(9)))
    assert np.array_equal(new.identity_index[:9], old.identity_index)
    assert {*copied} == {shard.summary.shard for shard in new.manifest.shards} - before
    assert len(copied) == 1
    assert FaceStore.open(root, cache, snapshot=1).num_faces == 9
    assert len(copied) == 1


def test_shard_whose_bytes_changed_is_refused(root: Path, tmp_path: Path) -> None:
    shard = root / "shards" / f"{read_snapshot(root).shards[0].summary.shard}.parquet"
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(CorruptShard, match="bytes changed on disk; restore it"):
        FaceStore.open(root, tmp_path / "cache")
    shard.unlink()
    with pytest.raises(CorruptShard, match="is absent"):
        FaceStore.open(root, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob(".staging*"))


def _open_together(
    root: Path, cache: Path, together: Barrier, answers: Queue[tuple[int, int]]
) -> None:
    copied = _count_copies(setattr)
    together.wait(timeout=120)
    total = int(FaceStore.open(root, cache).decode(range(9)).sum())
    answers.put((len(copied), total))


def test_processes_that_open_a_new_cache_together_fill_it_once(root: Path, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    together, answers = spawn.Barrier(3), spawn.Queue()
    arguments = (root, tmp_path / "cache", together, answers)
    processes = [spawn.Process(target=_open_together, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=120)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sum(copies for copies, _ in found) == 4
    assert len({total for _, total in found}) == 1
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 4


@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten", "of another shard"])
def test_damaged_cache_file_is_made_again(
    root: Path, tmp_path: Path, copied: list[str], damage: str
) -> None:
    cache = tmp_path / "cache"
    before = FaceStore.open(root, cache).decode(range(9))
    largest, *others = sorted(cache.glob("*.arrow"), key=lambda path: -path.stat().st_size)
    raw = largest.read_bytes()
    damaged = {
        "cut": raw[: len(raw) // 2],
        "emptied": b"",
        "overwritten": bytes(len(raw)),
        "of another shard": others[-1].read_bytes(),
    }
    largest.unlink()  # the open store maps the old file
    largest.write_bytes(damaged[damage])
    copied.clear()

    store = FaceStore.open(root, cache)

    assert copied == [largest.stem.split("-")[0]]
    assert np.array_equal(store.decode(range(9)), before)
    assert largest.read_bytes() == raw


def test_what_a_killed_filler_left_is_swept(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / ".staging-host-1-abc.arrow").write_bytes(b"half")
    FaceStore.open(root, cache)
    assert not list(cache.glob(".staging*"))


def test_rejects_take_no_face_index(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"a": 2})
    reasons = write_bad_photos(source / "a")
    publish_plainly(source, tmp_path)
    store = FaceStore.open(tmp_path, tmp_path / "cache")
    assert store.num_faces == 2
    assert sum(store.manifest.rejects.values()) == len(reasons)
