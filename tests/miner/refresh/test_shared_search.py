"""Refreshes shared out over Ray actors, which may be killed at any moment."""

from __future__ import annotations

import logging
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
import ray
from numpy.typing import NDArray

from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.config import MinerConfig
from facequarry.miner.mining import Mined, mine
from facequarry.miner.refresh.executors import Executors
from facequarry.miner.refresh.replay import replay_generation
from facequarry.miner.refresh.shared_executors import EmbedActor, MineActor, SharedExecutors
from facequarry.miner.refresh.unit_rows import CannotEmbed
from facequarry.miner.spread.spread import Answer, Limits, Part, Task
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces
from facequarry.trainer.config import TrainerConfig
from tests.miner.inputs import separated
from tests.miner.small_run import SmallRun, copied
from tests.trainer.stores import publish, train_small

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster", "small_blocks")]

CONFIG = MinerConfig(negatives="random", fallback=("easy",), duplicate_floor=0.01, threads=1)
NOWHERE = FacesAt(root=Path("absent"), cache=Path("absent"), snapshot=1)
TWO = SharedExecutors(at=NOWHERE, embed_actors=2, miner_actors=2, cpus=0.5)
THREE = replace(TWO, embed_actors=3, miner_actors=3)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut galleries of a few hundred faces too."""
    monkeypatch.setattr("facequarry.miner.refresh.shared_executors.choose_num_blocks", lambda *_: 5)
    monkeypatch.setattr("facequarry.miner.refresh.shared_executors.EMBED_BLOCK", 128)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run with faces for three blocks of whole batches."""
    folder = tmp_path_factory.mktemp("trained")
    at = publish(folder, {f"n{number:06d}": 10 for number in range(48)})
    run = RunDir(folder / "run")
    train_small(
        run, RunFaces(at), TrainerConfig(embedding_dim=8, steps=4, batch=8, checkpoint_every=4)
    )
    return SmallRun(run, at)


@pytest.fixture
def small(trained: SmallRun, tmp_path: Path) -> SmallRun:
    return copied(trained, tmp_path)


def mined(sharing: SharedExecutors | None = None, config: MinerConfig = CONFIG) -> Mined:
    x, identities = separated(60, 5, 8, 1.0)
    opener = None if sharing is None else sharing.open_engine
    return mine(x, identities, config=config, seed=3, open_engine=opener)


def test_a_generation_is_the_same_by_three_actors_by_two_by_one_and_by_none(
    small: SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = small.mine(0, executors=replace(THREE, at=small.at).executors())
    assert manifest["stats"]["num_embedded"] > 2 * 128
    assert manifest["stats"]["semi_hard"] > 0
    assert replay_generation(small.run, small.at, 0).difference is None
    two = replace(TWO, at=small.at).executors()
    replay = replay_generation(small.run, small.at, 0, executors=two)
    assert (replay.difference, replay.rows) == (None, manifest["rows"])
    # By configuration one actor is none: the miner does it.
    one = replace(THREE, at=small.at, embed_actors=1, miner_actors=1)
    executors = Executors(embed=one.embed, open_engine=one.open_engine)
    caplog.clear()
    with caplog.at_level(logging.INFO, "facequarry.miner.refresh.shared_executors"):
        replay = replay_generation(small.run, small.at, 0, executors=executors)
    assert (replay.difference, replay.rows) == (None, manifest["rows"])
    assert any(message.startswith("1 miner actors") for message in caplog.messages)


def test_the_task_of_a_killed_miner_is_done_by_another(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    marker = tmp_path / "killed"

    class Dying(MineActor):
        """One of them is killed when it has all but answered a task."""

        def answer(self, task: Task, limits: Limits, *parts: Part) -> Answer:
            found = super().answer(task, limits, *parts)
            if task.blocks == (1, 3) and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return found

    monkeypatch.setattr("facequarry.miner.refresh.shared_executors.MineActor", Dying)
    ours, theirs = mined(TWO), mined()
    assert marker.exists()
    assert sum("a miner actor died" in message for message in caplog.messages) == 1
    assert ours.table.equals(theirs.table)
    assert ours.suspects.equals(theirs.suspects)
    assert {**ours.stats.to_dict(), "seconds": 0} == {**theirs.stats.to_dict(), "seconds": 0}


def test_a_miner_that_is_an_actor_itself_shares_its_search_out() -> None:
    class Miner:
        def work(self) -> pa.Table:
            with mock.patch(
                "facequarry.miner.refresh.shared_executors.choose_num_blocks", lambda *_: 5
            ):
                return mined(TWO).table

    remote: Any = ray.remote(num_cpus=0)(Miner)
    table = ray.get(remote.remote().work.remote(), timeout=300)
    assert table.equals(mined().table)


def test_the_faces_of_a_killed_embedder_are_embedded_by_another(
    small: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "killed"

    class Dying(EmbedActor):
        def embed(self, face_indices: NDArray[np.int64]) -> NDArray[np.float32]:
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().embed(face_indices)

    small.mine(0)
    monkeypatch.setattr("facequarry.miner.refresh.shared_executors.EmbedActor", Dying)
    executors = replace(TWO, at=small.at, miner_actors=1).executors()
    assert replay_generation(small.run, small.at, 0, executors=executors).difference is None
    assert marker.exists()


def test_an_embedding_that_is_not_finite_is_said_with_its_face(
    small: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(EmbedActor):
        def embed(self, face_indices: NDArray[np.int64]) -> NDArray[np.float32]:
            rows = super().embed(face_indices)
            rows[3] = np.nan
            return rows

    monkeypatch.setattr("facequarry.miner.refresh.shared_executors.EmbedActor", Broken)
    with pytest.raises(CannotEmbed, match=r"step 4 embeds face \d+ as NaN or infinity"):
        small.mine(0, executors=replace(TWO, at=small.at).executors())
    assert small.run.generation_numbers() == []
