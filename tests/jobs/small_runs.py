"""A run that was trained without Ray, for the commands that read one."""

from __future__ import annotations

from pathlib import Path

from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import RunConfig
from facequarry.jobs.state.runs_on_disk import open_run
from facequarry.miner.config import MinerConfig
from facequarry.trainer.batch.run_faces import RunFaces
from facequarry.trainer.config import TrainerConfig
from tests.miner.small_run import PLAN
from tests.trainer.stores import IDENTITIES, publish, train_small


def train_run(folder: Path, trainer: TrainerConfig) -> RunDir:
    """Publish a few faces below `folder` and train a run on them; nothing is mined yet."""
    at = publish(folder, IDENTITIES)
    config = RunConfig(
        name="run",
        runs=folder,
        faces=at.root,
        split=PLAN.split,
        trainer=trainer,
        miner=MinerConfig(threads=1),
    )
    run, _ = open_run(config, at.open().manifest, resume=False)
    train_small(run, RunFaces(at), trainer)
    return run
