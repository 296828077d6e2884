from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from datasets.crop import decode_jpeg
from datasets.faces import FaceStore
from datasets.schema import CorruptShard
from datasets.snapshots import read_snapshot
from tests.datasets.photos import publish_plainly, write_bad_photos, write_tree

_OPEN = """
import sys
from pathlib import Path
from datasets.faces import FaceStore
print(FaceStore.open(Path(sys.argv[1]), Path(sys.argv[2])).decode(range(9)).sum())
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Snapshot 1: nine faces of two identities in four shards, one of them without faces."""
    source = write_tree(tmp_path / "photos", {"a": 4, "c": 5})
    (source / "b").mkdir()
    for number in range(4):
        (source / "b" / f"{number}.jpg").write_bytes(b"")
    publish_plainly(source, tmp_path / "faces")
    return tmp_path / "faces"


def _inodes(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in cache.glob("*.arrow")}


@pytest.mark.parametrize("workers", [1, 2])
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


def test_older_snapshot_stays_readable_and_the_cache_grows(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    old = FaceStore.open(root, cache)
    files = _inodes(cache)
    write_tree(tmp_path / "photos", {"b": 2})
    publish_plainly(tmp_path / "photos", root)

    new = FaceStore.open(root, cache)

    assert (new.num_faces, new.identities) == (11, ["a", "c", "b"])
    assert np.array_equal(new.decode(range(9)), old.decode(range(9)))
    assert np.array_equal(new.identity_index[:9], old.identity_index)
    assert (
        files.items() <= {path.name: path.stat().st_ino for path in cache.glob("*.arrow")}.items()
    )
    assert FaceStore.open(root, cache, snapshot=1).num_faces == 9


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


def test_two_processes_may_fill_one_cache_at_once(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", _OPEN, str(root), str(tmp_path / "cache")]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second,
    ):
        outputs = {process.communicate(timeout=120)[0] for process in (first, second)}
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(outputs) == 1
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 4


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
