"""A run with checkpoints 0 and 4 and eight small identities, to mine in: no Ray, no detector."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facequarry.datasets.disk.fence import FencedLock
from facequarry.datasets.faces.split import Split
from facequarry.datasets.generations.triplets import read_generation_manifest
from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.config import MinerConfig
from facequarry.miner.refresh.executors import HERE, Executors
from facequarry.miner.refresh.generation import make_generation
from facequarry.miner.refresh.recipe import RefreshPlan
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces
from facequarry.trainer.checkpoints.checkpoint import load_model, publish_checkpoint
from facequarry.trainer.config import TrainerConfig
from tests.trainer.stores import IDENTITIES, publish, train_small

PLAN = RefreshPlan(
    config=MinerConfig(negatives="random", fallback=("easy",), duplicate_floor=1e-4, threads=1),
    split=Split(train=0.6, tuning=0.0),
    rows_needed=20,
    seed=3,
)


@dataclass(frozen=True)
class SmallRun:
    """A run directory and where its faces are."""

    run: RunDir
    at: FacesAt

    def mine(
        self,
        number: int,
        *,
        step: int = 4,
        plan: RefreshPlan = PLAN,
        lock: FencedLock | None = None,
        executors: Executors = HERE,
        clock: Callable[[], float] = lambda: 1.0,
    ) -> dict[str, Any]:
        """Publish a generation; return its manifest."""
        make_generation(
            self.run,
            RunFaces(self.at),
            plan,
            step=step,
            number=number,
            log=EventLog(self.run.events, "miner", attempt=1),
            lock=lock,
            executors=executors,
            clock=clock,
        )
        return read_generation_manifest(self.run.generation(number))

    def events(self) -> list[dict[str, Any]]:
        return read_events(self.run.events, "miner")


def checkpoint_of(run: RunDir, step: int, weight: float) -> None:
    """Publish a checkpoint all of whose weights are `weight`: with NaN or 0 it embeds nothing."""
    model, manifest = load_model(run.checkpoint(0))
    for parameter in model.parameters():
        parameter.data.fill_(weight)
    publish_checkpoint(
        run,
        step,
        model,
        backbone=manifest["backbone"],
        embedding_dim=manifest["embedding_dim"],
        crop_px=manifest["crop_px"],
        trainer_state={},
    )


def train_once(folder: Path) -> SmallRun:
    """Train four steps under `folder`."""
    at = publish(folder, IDENTITIES)
    run = RunDir(folder / "run")
    config = TrainerConfig(embedding_dim=8, steps=4, batch=8, checkpoint_every=4)
    train_small(run, RunFaces(at), config)
    return SmallRun(run, at)


def copied(trained: SmallRun, folder: Path) -> SmallRun:
    """Return a copy of the run that a test may damage; the faces are shared."""
    run = RunDir(folder / "run")
    shutil.copytree(trained.run.checkpoints, run.checkpoints)
    return SmallRun(run, trained.at)
