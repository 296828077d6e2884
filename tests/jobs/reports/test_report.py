"""The pictures of a finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import facequarry.jobs.reports.report
from facequarry.datasets.runs.events import last_attempt_by_step, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import RunConfig
from facequarry.jobs.reports.report import draw
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.evaluation.evaluate import evaluate
from tests.trainer.stores import publish_rows, random_triplets, small_store, still, train_small


def test_a_run_that_ended_before_any_mined_row_was_consumed_has_no_picture_of_their_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, run = small_store(tmp_path), RunDir(tmp_path / "run")
    faces = still(store)
    config = TrainerConfig(embedding_dim=8, steps=4, batch=4, checkpoint_every=4)
    train_small(run, faces, config)  # on random triplets, as `on_empty = "random"` gives them
    publish_rows(run, 0, random_triplets(store).rows(0, 8))
    everyone = np.arange(store.num_faces)
    before, after = (
        evaluate(run, store, everyone, step=step, part="held_out", max_pairs=50, seed=0)
        for step in (0, 4)
    )
    steps = last_attempt_by_step(read_events(run.events, "trainer"), "step")
    monkeypatch.setattr(facequarry.jobs.reports.report, "draw_generation", lambda *_, **__: {})
    pictures = draw(RunConfig(), run, faces, steps, 9, before, after)
    assert sorted(pictures) == ["consumed", "d2", "loss", "roc"]
