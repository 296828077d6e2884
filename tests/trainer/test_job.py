"""One group of workers trains a run at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from facequarry.datasets.disk.lock import LockHeld, WriterLock
from facequarry.datasets.faces.split import Split
from facequarry.datasets.generations.triplets import Lease
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.run_faces import FacesAt
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.job import TrainJob
from facequarry.trainer.world import World


class NoSource:
    wants_checkpoint = False

    def lease(self, step: int) -> Lease:
        raise TimeoutError(f"step {step}")


def test_a_worker_does_not_train_beside_one_of_the_attempt_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facequarry.trainer.job._LOCK_TIMEOUT_S", 0.0)
    run = RunDir(tmp_path / "run")
    job = TrainJob(
        config=TrainerConfig(),
        run=run,
        faces=FacesAt(root=tmp_path, cache=tmp_path, snapshot=1),
        split=Split(),
        source=NoSource(),
        margin=0.2,
        seed=0,
        attempt=2,
        batch_timeout_s=1.0,
    )
    with WriterLock(run.trainer_lock), pytest.raises(LockHeld, match="is held by process"):
        job.work(World(rank=0, size=1, device="cpu"))
