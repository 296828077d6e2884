"""Interrupted and resumed equals uninterrupted, bit for bit on one CPU thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from facequarry.datasets.faces.split import Split
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import Lease, TripletSource
from facequarry.datasets.runs.events import EventLog, last_attempt_by_step, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.config import MinerConfig
from facequarry.miner.queue.serve import QueueSettings, TripletQueue, Wait
from facequarry.miner.refresh.generation import make_generation
from facequarry.miner.refresh.recipe import RefreshPlan
from facequarry.trainer.config import TrainerConfig
from tests.trainer.stores import (
    RandomSource,
    publish_rows,
    random_triplets,
    small_store,
    still,
    train_small,
)

STEPS, EVERY, BATCH = 12, 4, 8
CONFIG = TrainerConfig(
    embedding_dim=8, steps=STEPS, batch=BATCH, checkpoint_every=EVERY, keep_checkpoints=9
)
MOVING = replace(
    CONFIG,
    optimizer="sgd",
    learning_rate=0.05,
    schedule="cosine",
    warmup_steps=3,
    jitter_px=2,
)
PLAN = RefreshPlan(
    config=MinerConfig(margin=1.0, threads=1),
    split=Split(train=0.9, tuning=0.0),
    rows_needed=None,
    seed=0,
    snapshots="pinned",
)
_PATIENCE_S = 60.0


class Interrupted(Exception):
    pass


@dataclass
class Stopping:
    """Passes a source on until `stop_at`, where it raises."""

    source: TripletSource
    stop_at: int
    wants_checkpoint: bool = False

    def lease(self, step: int) -> Lease:
        if step == self.stop_at:
            raise Interrupted
        return self.source.lease(step)


@dataclass
class Queued:
    """A queue whose generation 1 appears when step 6 is asked for the first time."""

    run: RunDir
    store: FaceStore
    queue: TripletQueue = field(init=False)
    wants_checkpoint: bool = False

    def __post_init__(self) -> None:
        self.queue = TripletQueue(self.run, settings(None), attempt=1)
        self._publish(0)

    def lease(self, step: int) -> Lease:
        if step == 6:
            self._publish(1)
        lease = self.queue.ask(step)
        assert isinstance(lease, Lease)
        return lease

    def _publish(self, number: int) -> None:
        if not self.run.generation(number).exists():
            publish_rows(self.run, number, random_triplets(self.store).rows(900 + number, 30))


@dataclass
class Blocking:
    """A queue under blocking refresh: each checkpoint is mined before the steps after it."""

    run: RunDir
    store: FaceStore
    queue: TripletQueue = field(init=False)
    wants_checkpoint: bool = False

    def __post_init__(self) -> None:
        self.queue = TripletQueue(self.run, settings(EVERY), attempt=1)

    def lease(self, step: int) -> Lease:
        lease = self.queue.ask(step)
        if isinstance(lease, Wait):
            at = step // EVERY * EVERY
            wait_for((self.run.checkpoint(at) / "manifest.json").is_file)
            log = EventLog(self.run.events, "miner", attempt=1)
            number = len(self.run.generation_numbers())
            make_generation(self.run, still(self.store), PLAN, step=at, number=number, log=log)
            lease = self.queue.ask(step)
        assert isinstance(lease, Lease)
        return lease


def settings(block_every: int | None) -> QueueSettings:
    return QueueSettings(
        batch=BATCH,
        carry_over=0.25,
        seed=0,
        prefetch=CONFIG.prefetch,
        random_until_mined=False,
        block_every=block_every,
    )


def wait_for(is_so: Callable[[], bool]) -> None:
    """Wait for what the trainer's other thread does."""
    tries, pause = round(_PATIENCE_S / 0.01), threading.Event()
    assert any(is_so() or pause.wait(0.01) for _ in range(tries))


def random_source(_run: RunDir, _store: FaceStore) -> TripletSource:
    return RandomSource(BATCH)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FaceStore:
    return small_store(tmp_path_factory.mktemp("store"))


CASES: dict[str, tuple[Any, TrainerConfig]] = {
    "random": (random_source, CONFIG),
    "random, sgd with momentum, schedule and shifts": (random_source, MOVING),
    "mined, by a journal replayed": (Queued, CONFIG),
    "mined, sgd with momentum, schedule and shifts": (Queued, MOVING),
    "mined, blocking refresh": (Blocking, CONFIG),
    "mined, and found in the batch": (Queued, replace(CONFIG, add_in_batch=True)),
    "found in the batch": (random_source, replace(CONFIG, selection="online_semi_hard")),
}


@pytest.mark.parametrize("stop_at", [8, 10])
@pytest.mark.parametrize("case", CASES)
def test_interrupted_and_resumed_equals_uninterrupted(
    store: FaceStore, tmp_path: Path, case: str, stop_at: int
) -> None:
    make_source, config = CASES[case]
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    train_small(whole, still(store), config, source=make_source(whole, store))
    stopping = Stopping(make_source(parts, store), stop_at)
    with pytest.raises(Interrupted):
        train_small(parts, still(store), config, source=stopping)
    assert max(parts.checkpoint_steps()) == 8
    train_small(parts, still(store), config, source=make_source(parts, store), attempt=2)

    for name in ("model.safetensors", "trainer.pt"):
        assert weights(whole, name).keys() == weights(parts, name).keys()
        for key, value in weights(whole, name).items():
            assert torch.equal(value, weights(parts, name)[key]), key
    assert consumed(whole) == consumed(parts)
    if make_source is not random_source:
        generations = [generation for generation, *_ in consumed(whole)]
        assert generations == sorted(generations) and len(set(generations)) > 1


def weights(run: RunDir, name: str) -> dict[str, torch.Tensor]:
    path = run.checkpoint(STEPS) / name
    if name.endswith(".safetensors"):
        return load_file(path)
    state = torch.load(path, weights_only=True)["optimizer"]["state"]
    return {f"{number} {key}": value for number, s in state.items() for key, value in s.items()}


def consumed(run: RunDir) -> list[tuple[Any, ...]]:
    names = ("generation", "repeats", "staleness_steps", "num_triplets", "loss_d2", "learning_rate")
    steps = [e for e in read_events(run.events, "trainer") if e["event"] == "step"]
    by_step = last_attempt_by_step(steps)
    assert [event["step"] for event in by_step] == list(range(STEPS))
    assert {event["attempt"] for event in by_step[:8]} == {1}
    return [tuple(event.get(name) for name in names) for event in by_step]


def test_a_damaged_checkpoint_0_is_made_again_before_training_goes_on(
    store: FaceStore, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    train_small(run, still(store), replace(CONFIG, steps=8))
    path = run.checkpoint(0) / "model.safetensors"
    before = path.read_bytes()
    path.write_bytes(b"torn")
    source = RandomSource(BATCH)
    train_small(run, still(store), CONFIG, source=source, attempt=2)
    assert path.read_bytes() == before
    assert source.asked == [8, 9, 10, 11]
    assert len(list((tmp_path / "abandoned").iterdir())) == 1


def test_a_run_at_checkpoint_0_goes_on_from_its_weights(store: FaceStore, tmp_path: Path) -> None:
    whole, parts = RunDir(tmp_path / "whole"), RunDir(tmp_path / "parts")
    train_small(whole, still(store), CONFIG)
    with pytest.raises(Interrupted):
        train_small(parts, still(store), CONFIG, source=Stopping(RandomSource(BATCH), 0))
    train_small(parts, still(store), CONFIG, attempt=2)
    for key, value in weights(whole, "model.safetensors").items():
        assert torch.equal(value, weights(parts, "model.safetensors")[key]), key


def test_tensorboard_shows_a_step_that_was_done_again_once(
    store: FaceStore, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = RunDir(tmp_path)
    with pytest.raises(Interrupted):
        train_small(run, still(store), CONFIG, source=Stopping(RandomSource(BATCH), 10))
    train_small(run, still(store), CONFIG, attempt=2)
    board = EventAccumulator(str(run.tensorboard))
    board.Reload()
    assert [s.step for s in board.Scalars("trainer/loss_d2")] == list(range(STEPS))
    shown = [s.value for s in board.Scalars("trainer/learning_rate")]
    assert np.allclose(shown, CONFIG.learning_rate)


def test_rows_that_were_just_mined_are_all_in_their_band_when_faces_are_as_they_were_mined(
    store: FaceStore, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    as_mined = replace(CONFIG, steps=2, flip=False, freeze_batch_norm=True)
    margin = PLAN.config.margin
    train_small(run, still(store), as_mined, source=Blocking(run, store), margin=margin)
    first = next(e for e in read_events(run.events, "trainer") if e["event"] == "step")
    assert (first["staleness_steps"], first["in_band_share"]) == (0, 1.0)
