from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.checkpoints.checkpoint import CheckpointMismatch
from facequarry.trainer.config import TrainerConfig
from tests.trainer.stores import RandomSource, random_triplets, small_store, still, train_small

CONFIG = TrainerConfig(
    embedding_dim=8, steps=12, batch=16, checkpoint_every=4, keep_checkpoints=9, threads=1
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FaceStore:
    return small_store(tmp_path_factory.mktemp("store"))


def run_training(
    store: FaceStore, root: Path, config: TrainerConfig = CONFIG, attempt: int = 1
) -> RandomSource:
    source = RandomSource(config.batch)
    step = train_small(RunDir(root), still(store), config, source=source, attempt=attempt)
    assert step == config.steps
    return source


def changed(**values: object) -> TrainerConfig:
    from dataclasses import replace

    return replace(CONFIG, **values)  # type: ignore[arg-type]


def test_the_loss_falls_and_every_step_is_logged(store: FaceStore, tmp_path: Path) -> None:
    run_training(store, tmp_path, changed(steps=60, checkpoint_every=30))
    steps = [e for e in read_events(RunDir(tmp_path).events, "trainer") if e["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(60))
    losses = [event["loss_d2"] for event in steps]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert all(event["faces_per_triplet"] <= 3 for event in steps)
    assert list(RunDir(tmp_path).tensorboard.glob("events.*"))


def test_checkpoints_appear_at_their_steps_and_at_the_end(store: FaceStore, tmp_path: Path) -> None:
    run_training(store, tmp_path, changed(steps=10))
    assert RunDir(tmp_path).checkpoint_steps() == [0, 4, 8, 10]


def test_a_finished_run_has_nothing_left_to_do(store: FaceStore, tmp_path: Path) -> None:
    run_training(store, tmp_path)
    assert run_training(store, tmp_path, attempt=2).asked == []


def test_another_backbone_size_does_not_resume(store: FaceStore, tmp_path: Path) -> None:
    run_training(store, tmp_path)
    with pytest.raises(CheckpointMismatch, match="does not fit"):
        run_training(store, tmp_path, changed(embedding_dim=16, steps=20))


def test_step_zero_is_spread_out_rather_than_one_point(store: FaceStore, tmp_path: Path) -> None:
    from facequarry.trainer.checkpoints.checkpoint import load_model
    from facequarry.trainer.network.embed import embed

    run_training(store, tmp_path)
    model, _ = load_model(RunDir(tmp_path).checkpoint(0))
    rows = torch.from_numpy(embed(model, store, random_triplets(store).rows(0, 20)[:, 0]))
    assert float(torch.cdist(rows, rows).square().max()) > 1


def test_a_loss_that_is_no_number_stops_the_run(store: FaceStore, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="start a new run with a lower"):
        run_training(store, tmp_path, changed(learning_rate=1e30))
    assert RunDir(tmp_path).checkpoint_steps() == [0]
