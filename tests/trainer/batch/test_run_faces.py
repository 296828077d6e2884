from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facequarry.trainer.batch.run_faces import FacesAt, RunFaces
from tests.datasets.photos import WHOLE, publish_plainly, write_tree
from tests.trainer.stores import IDENTITIES, publish


@pytest.fixture
def at(tmp_path: Path) -> FacesAt:
    """The first of two snapshots."""
    first = publish(tmp_path, IDENTITIES)
    publish(tmp_path, {"n000001": 6, "a-new-one": 3})
    return first


def test_a_newer_snapshot_serves_the_same_bytes(at: FacesAt) -> None:
    faces = RunFaces(at)
    before, after = faces.store, faces.reach(2)
    assert (before.manifest.number, after.manifest.number) == (1, 2)
    everyone = np.arange(before.num_faces)
    assert np.array_equal(before.decode(everyone), after.decode(everyone))
    assert np.array_equal(before.identity_index, after.identity_index[everyone])
    assert after.num_faces == before.num_faces + 5
    assert faces.first == before.manifest


def test_an_older_snapshot_never_takes_over(at: FacesAt) -> None:
    faces = RunFaces(at)
    newer = faces.reach(2)
    assert faces.reach(1) is newer
    assert faces.reach_newest(at_least=1) is newer


def test_threads_that_ask_at_once_get_one_store(at: FacesAt) -> None:
    faces = RunFaces(at)
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(faces.reach, [2] * 8))
    assert all(store is stores[0] for store in stores)


def test_a_snapshot_that_is_not_there_is_refused(at: FacesAt) -> None:
    faces = RunFaces(at)
    with pytest.raises(FileNotFoundError, match=r"no snapshot 3 .* published: \[1, 2\]"):
        faces.reach_newest(at_least=3)
    assert faces.store.manifest.number == 1


@pytest.mark.parametrize(
    ("crop_px", "words"),
    [
        (48, "crops of 48 px, snapshot 1 of the run has 32 px"),
        (32, "does not begin with the faces of snapshot 1"),
    ],
)
def test_other_faces_under_the_same_root_are_refused(
    at: FacesAt, tmp_path: Path, crop_px: int, words: str
) -> None:
    faces = RunFaces(at)
    at.root.rename(tmp_path / "before")
    for people in ({"x": 2, "y": 3}, {"z": 2}):
        source = write_tree(tmp_path / "others", people)
        publish_plainly(source, at.root, replace(WHOLE, crop_px=crop_px))
    with pytest.raises(ValueError, match=words):
        faces.reach(2)
    assert faces.store.manifest.number == 1
