"""Faces that are ingested while a run goes on: mined, trained on, and nothing else moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facequarry.datasets.faces.snapshots import snapshot_folder
from facequarry.datasets.faces.split import Split
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import (
    Lease,
    RowRange,
    mined_snapshot,
    read_generation_manifest,
    read_table,
)
from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.config import MinerConfig
from facequarry.miner.refresh.generation import make_generation
from facequarry.miner.refresh.recipe import RefreshPlan
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces
from facequarry.trainer.config import TrainerConfig
from tests.trainer.stores import IDENTITIES, publish, train_small

CONFIG = TrainerConfig(embedding_dim=8, steps=4, batch=8, checkpoint_every=4)
PLAN = RefreshPlan(
    config=MinerConfig(negatives="random", threads=1),
    split=Split(train=0.6, tuning=0.0),
    rows_needed=None,
    seed=0,
)


def names(part: str, count: int) -> list[str]:
    """Return new identities of one part."""
    found = [name for name in map("new{:03d}".format, range(100)) if PLAN.split.of(name) == part]
    return found[:count]


@dataclass
class Growing:
    """A run with checkpoints 0 and 4, and a faces root that grows."""

    folder: Path
    at: FacesAt
    run: RunDir
    faces: RunFaces

    def mine(
        self, number: int, plan: RefreshPlan = PLAN, faces: RunFaces | None = None
    ) -> set[int]:
        """Mine generation `number` at step 4; return the faces in it."""
        log = EventLog(self.run.events, "miner", attempt=1)
        make_generation(self.run, faces or self.faces, plan, step=4, number=number, log=log)
        table = read_table(self.run.generation(number))
        columns = [table[name].to_numpy() for name in ("anchor", "positive", "negative")]
        return set(np.concatenate(columns).tolist())

    def ingest(self) -> FaceStore:
        """Publish snapshot 2: two training identities, a held-out one, a photo of an old one."""
        photos = dict.fromkeys([*names("train", 2), *names("held_out", 1)], 4)
        return publish(self.folder, photos | {"n000000": 6}).open()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("trained")
    run = RunDir(folder / "run")
    train_small(run, RunFaces(publish(folder, IDENTITIES)), CONFIG)
    return run


@pytest.fixture
def growing(trained: RunDir, tmp_path: Path) -> Growing:
    run = RunDir(tmp_path / "run")
    for step in (0, 4):
        run.checkpoint(step).parent.mkdir(parents=True, exist_ok=True)
        run.checkpoint(step).symlink_to(trained.checkpoint(step))
    at = publish(tmp_path, IDENTITIES)
    return Growing(tmp_path, at, run, RunFaces(at))


def test_the_next_refresh_mines_the_new_snapshot(growing: Growing) -> None:
    old = growing.mine(0)
    newer = growing.ingest()
    mined = growing.mine(1)
    first = growing.faces.first.num_faces
    assert max(old) < first
    train = set(PLAN.split.faces(newer, "train").tolist())
    assert {face for face in train if face >= first} <= mined <= train
    numbers = [read_generation_manifest(growing.run.generation(n))["snapshot"] for n in (0, 1)]
    assert numbers == [1, 2]
    assert mined_snapshot(growing.run) == 2


def test_events_say_which_snapshot_a_refresh_mined(growing: Growing) -> None:
    growing.mine(0)
    newer = growing.ingest()
    growing.mine(1)
    first, second = (
        e for e in read_events(growing.run.events, "miner") if e["event"] == "published"
    )
    assert (first["snapshot"], first["new_identities"]) == (1, 0)
    assert (second["snapshot"], second["new_identities"]) == (2, 2)
    assert second["faces"] == len(PLAN.split.faces(newer, "train")) > first["faces"]


def test_a_pinned_run_mines_its_first_snapshot_to_the_end(growing: Growing) -> None:
    pinned = replace(PLAN, snapshots="pinned")
    growing.mine(0, pinned)
    growing.ingest()
    assert growing.mine(1, pinned) <= set(range(growing.faces.first.num_faces))
    assert mined_snapshot(growing.run) == 1


def test_without_a_new_snapshot_both_mine_the_same_bytes(growing: Growing, tmp_path: Path) -> None:
    tables = []
    for name, plan in (("newest", PLAN), ("pinned", replace(PLAN, snapshots="pinned"))):
        run = RunDir(tmp_path / name)
        run.root.mkdir()
        run.checkpoints.symlink_to(growing.run.checkpoints)
        Growing(growing.folder, growing.at, run, growing.faces).mine(0, plan)
        tables.append([part.read_bytes() for part in run.generation(0).glob("part-*")])
    assert tables[0] == tables[1] != []


def test_a_restarted_miner_never_mines_an_older_snapshot(growing: Growing) -> None:
    growing.ingest()
    growing.mine(0)
    restarted = RunFaces(growing.at)
    assert restarted.store.manifest.number == 1
    growing.mine(1, faces=restarted)
    assert mined_snapshot(growing.run) == 2
    snapshot_folder(growing.at.root, 2).rename(growing.folder / "lost")
    with pytest.raises(FileNotFoundError, match="no snapshot 2"):
        growing.mine(2, faces=RunFaces(growing.at))


@dataclass
class Mined:
    """Leases the rows of generation 1, over and over."""

    num_rows: int
    wants_checkpoint: bool = False

    def lease(self, step: int) -> Lease:
        first = step * CONFIG.batch % (self.num_rows - CONFIG.batch)
        return Lease(step, 1, (RowRange(1, first, first + CONFIG.batch),))


def test_a_resumed_training_takes_new_faces_whichever_store_it_began_with(
    growing: Growing,
) -> None:
    growing.mine(0)
    growing.ingest()
    assert max(growing.mine(1)) >= growing.faces.first.num_faces
    source = Mined(read_table(growing.run.generation(1)).num_rows)
    ends = []
    for first in (1, 2):
        run = RunDir(growing.folder / f"first-{first}")
        run.checkpoints.mkdir(parents=True)
        run.generations.symlink_to(growing.run.generations)
        run.checkpoint(4).symlink_to(growing.run.checkpoint(4).resolve())
        faces = RunFaces(replace(growing.at, snapshot=first))
        train_small(run, faces, replace(CONFIG, steps=12), source=source)
        assert faces.store.manifest.number == 2
        ends.append(load_file(run.checkpoint(12) / "model.safetensors"))
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
