"""A training whose rows would be too old publishes a checkpoint at its step, and goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import Lease
from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.client import PatientSource
from facequarry.miner.queue.serve import QueueSettings, TripletQueue, Wait
from facequarry.trainer.config import TrainerConfig
from tests.trainer.stores import publish_rows, small_store, still, train_small

CONFIG = TrainerConfig(
    embedding_dim=8, steps=14, batch=4, checkpoint_every=4, keep_checkpoints=9, prefetch=1
)
LIMIT = 5


class QueueAndMiner(PatientSource):
    """The real queue; its miner is slow: it mines only when an ask has to wait."""

    def __init__(self, run: RunDir) -> None:
        super().__init__(60.0, sleep=lambda _: None)
        asked = QueueSettings(
            batch=4,
            carry_over=0.0,
            seed=0,
            prefetch=1,
            random_until_mined=False,
            block_every=None,
            max_staleness_steps=LIMIT,
        )
        self._run, self._queue = run, TripletQueue(run, asked, attempt=1)

    def _ask(self, step: int) -> Lease | Wait:
        answer = self._queue.ask(step)
        steps, numbers = self._run.checkpoint_steps(), self._run.generation_numbers()
        # Only the checkpoint at the step itself satisfies this miner.
        if isinstance(answer, Wait) and steps[-1] == step:
            rows = np.tile([[0, 1, 5]], (40, 1))
            publish_rows(self._run, len(numbers), rows, mined_at_step=step)
        return answer


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FaceStore:
    return small_store(tmp_path_factory.mktemp("store"))


def test_a_checkpoint_is_published_where_rows_would_be_too_old(
    store: FaceStore, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    train_small(run, still(store), CONFIG, source=QueueAndMiner(run))
    assert run.checkpoint_steps() == [0, 4, 6, 8, 12, 14]
    steps = [e for e in read_events(run.events, "trainer") if e["event"] == "step"]
    assert [e["staleness_steps"] for e in steps] == [0, 1, 2, 3, 4, 5] * 2 + [0, 1]
