from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facequarry.datasets.disk.publish import read_manifest
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import (
    CorruptGeneration,
    Lease,
    RowRange,
    generation_digest,
    load_generation,
)
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.batches import RandomTriplets, RowReader, assemble
from facequarry.trainer.batch.run_faces import RunFaces
from tests.trainer.stores import (
    IDENTITIES,
    publish,
    publish_rows,
    random_triplets,
    small_store,
    still,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FaceStore:
    return small_store(tmp_path_factory.mktemp("store"))


def reader_of(run: RunDir, store: FaceStore) -> RowReader:
    return RowReader(run, random_triplets(store), still(store))


def test_random_triplets_are_triplets(store: FaceStore) -> None:
    rows = random_triplets(store).rows(step=3, count=500)
    identity = store.identity_index[rows]
    assert (identity[:, 0] == identity[:, 1]).all()
    assert (identity[:, 0] != identity[:, 2]).all()
    assert (rows[:, 0] != rows[:, 1]).all()


def test_random_triplets_reach_every_face_in_every_place(store: FaceStore) -> None:
    rows = random_triplets(store).rows(step=0, count=5000)
    for column in range(3):
        assert set(rows[:, column]) == set(range(store.num_faces))


def test_random_triplets_depend_on_seed_and_step_alone(store: FaceStore) -> None:
    rows = random_triplets(store, seed=4).rows(7, 50)
    assert np.array_equal(rows, random_triplets(store, seed=4).rows(7, 50))
    assert not np.array_equal(rows, random_triplets(store, seed=4).rows(8, 50))
    assert not np.array_equal(rows, random_triplets(store, seed=5).rows(7, 50))


def test_identities_of_one_face_are_never_anchors() -> None:
    random = RandomTriplets(np.array([10, 11, 12, 13]), np.array([0, 1, 0, 2]), seed=0)
    rows = random.rows(0, 200)
    assert set(rows[:, 0]) == {10, 12} and set(rows[:, 2]) == {11, 13}


@pytest.mark.parametrize(
    ("identities", "words"), [([0, 0], "two identities"), ([0, 1], "no training identity has two")]
)
def test_faces_that_make_no_triplet_are_refused(identities: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RandomTriplets(np.arange(2), np.array(identities), seed=0)


def test_a_batch_holds_each_face_once_and_the_rows_of_the_lease(
    store: FaceStore, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    rows = np.array([[0, 1, 5], [1, 0, 5], [5, 6, 0], [6, 5, 1], [8, 9, 0]])
    publish_rows(run, 0, rows, mined_at_step=20)
    lease = Lease(25, 0, (RowRange(0, 3, 5), RowRange(0, 0, 2)), repeats=2)
    batch = assemble(lease, reader_of(run, store), rank=0, world_size=1)
    assert np.array_equal(batch.face_indices[batch.triplets], rows[[3, 4, 0, 1]])
    assert len(np.unique(batch.face_indices)) == len(batch.face_indices)
    assert np.array_equal(batch.images, store.decode(batch.face_indices))
    assert (batch.staleness_steps, batch.repeats) == (5, 2)


def test_ranks_share_the_rows_out(store: FaceStore, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    rows = np.random.default_rng(0).integers(0, store.num_faces, (12, 3))
    publish_rows(run, 0, rows)
    lease = Lease(0, 0, (RowRange(0, 0, 12),))
    parts = [assemble(lease, reader_of(run, store), rank=rank, world_size=3) for rank in range(3)]
    joined = np.concatenate([part.face_indices[part.triplets] for part in parts])
    assert np.array_equal(joined, rows)


def test_staleness_is_that_of_the_oldest_row(store: FaceStore, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    rows = np.random.default_rng(0).integers(0, store.num_faces, (8, 3))
    publish_rows(run, 0, rows, mined_at_step=10)
    publish_rows(run, 1, rows, mined_at_step=30)
    lease = Lease(35, 1, (RowRange(1, 0, 4), RowRange(0, 4, 8)))
    for rank in range(2):  # the carried rows all lie on rank 1
        reader = reader_of(run, store)
        batch = assemble(lease, reader, rank=rank, world_size=2)
        assert batch.staleness_steps == 25


def test_a_batch_of_carried_rows_alone_is_read(store: FaceStore, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    rows = random_triplets(store).rows(0, 8)
    for number in (0, 1):
        publish_rows(run, number, rows, mined_at_step=number)
    digest = generation_digest(read_manifest(run.generation(0) / "manifest.json"))
    lease = Lease(9, 1, (RowRange(0, 0, 8, digest),))
    batch = assemble(lease, reader_of(run, store), rank=0, world_size=1)
    assert (batch.generation, batch.staleness_steps) == (1, 9)


def test_a_part_whose_bytes_changed_is_refused(store: FaceStore, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    publish_rows(run, 0, np.zeros((4, 3), np.int64))
    (part,) = run.generation(0).glob("part-*")
    part.write_bytes(part.read_bytes() + b"x")
    with pytest.raises(CorruptGeneration, match="mine it again"):
        reader_of(run, store).read(Lease(0, 0, (RowRange(0, 0, 4),)), 0, 1)


def test_a_generation_under_another_number_is_refused(store: FaceStore, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    publish_rows(run, 3, np.zeros((4, 3), np.int64))
    run.generation(3).rename(run.generation(4))
    with pytest.raises(CorruptGeneration, match="says generation 3"):
        load_generation(run.generation(4))


def test_rows_are_verified_against_the_manifest_whose_digest_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, num_reads = RunDir(tmp_path), count()
    publish_rows(run, 0, np.zeros((4, 3), np.int64))

    def read_once(path: Path) -> dict[str, Any]:
        assert next(num_reads) == 0, "the manifest was read twice, and may have been replaced"
        return read_manifest(path)

    monkeypatch.setattr("facequarry.datasets.generations.triplets.read_manifest", read_once)
    assert len(load_generation(run.generation(0)).anchors) == 4


def test_a_generation_whose_manifest_lacks_something_is_refused(
    store: FaceStore, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    publish_rows(run, 0, np.zeros((4, 3), np.int64))
    (run.generation(0) / "manifest.json").write_text('{"generation": 0, "snapshot": 1}')
    with pytest.raises(CorruptGeneration, match="lacks mined_at_step, rows, parts; restore it"):
        reader_of(run, store).read(Lease(0, 0, (RowRange(0, 0, 4),)), 0, 1)


def test_rows_of_a_newer_snapshot_come_with_its_faces(tmp_path: Path) -> None:
    faces = RunFaces(publish(tmp_path, IDENTITIES))
    random = random_triplets(faces.store)
    newer = publish(tmp_path, {"n000000": 5, "new": 2}).open()
    added = np.arange(faces.first.num_faces, newer.num_faces)
    assert len(added) == 4
    run = RunDir(tmp_path / "run")
    rows = np.stack([added, added[::-1], np.arange(4)], axis=1)
    publish_rows(run, 0, np.zeros((4, 3), np.int64))
    publish_rows(run, 1, rows, snapshot=2)
    reader = RowReader(run, random, faces)

    old = assemble(Lease(0, 0, (RowRange(0, 0, 4),)), reader, rank=0, world_size=1)
    assert faces.store.manifest.number == 1
    new = assemble(Lease(1, 1, (RowRange(1, 0, 4),)), reader, rank=0, world_size=1)

    assert faces.store.manifest.number == 2
    assert np.array_equal(old.images, newer.decode([0]))
    assert np.array_equal(new.face_indices[new.triplets], rows)
    assert np.array_equal(new.images, newer.decode(new.face_indices))


def test_every_rank_opens_the_snapshot_of_rows_that_are_not_its_own(tmp_path: Path) -> None:
    at = publish(tmp_path, IDENTITIES)
    publish(tmp_path, {"new": 2})
    run = RunDir(tmp_path / "run")
    publish_rows(run, 0, np.zeros((4, 3), np.int64))
    publish_rows(run, 1, np.zeros((4, 3), np.int64), snapshot=2)
    lease = Lease(0, 1, (RowRange(1, 0, 2), RowRange(0, 0, 2)))
    for rank in range(2):
        faces = RunFaces(at)
        assemble(
            lease, RowReader(run, random_triplets(faces.store), faces), rank=rank, world_size=2
        )
        assert faces.store.manifest.number == 2


def test_a_generation_of_a_snapshot_that_is_not_there_is_refused(tmp_path: Path) -> None:
    faces = RunFaces(publish(tmp_path, IDENTITIES))
    run = RunDir(tmp_path / "run")
    publish_rows(run, 0, np.zeros((4, 3), np.int64), snapshot=9)
    reader = RowReader(run, random_triplets(faces.store), faces)
    with pytest.raises(FileNotFoundError, match="generation 0 was mined from snapshot 9 .* no sna"):
        reader.read(Lease(0, 0, (RowRange(0, 0, 4),)), 0, 1)


def test_a_generation_of_faces_that_are_not_there_is_refused(
    store: FaceStore, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    publish_rows(run, 0, np.full((4, 3), store.num_faces))
    with pytest.raises(ValueError, match=f"names face {store.num_faces}, snapshot 1 ends at"):
        reader_of(run, store).read(Lease(0, 0, (RowRange(0, 0, 4),)), 0, 1)
