from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.faces import FaceStore
from datasets.run_dir import RunDir
from tests.datasets.photos import WHOLE, publish_plainly
from tests.trainer.stores import small_store, still, train_small
from trainer.config import TrainerConfig
from trainer.evaluate import CropMismatch, Evaluation, evaluate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def store(folder: Path) -> FaceStore:
    return small_store(folder)


@pytest.fixture(scope="module")
def run(folder: Path, store: FaceStore) -> RunDir:
    run = RunDir(folder / "run")
    config = TrainerConfig(embedding_dim=8, steps=40, batch=16, checkpoint_every=40)
    train_small(run, still(store), config)
    return run


def verified(run: RunDir, store: FaceStore, step: int) -> Evaluation:
    everyone = np.arange(store.num_faces)
    return evaluate(run, store, everyone, step=step, part="held_out", max_pairs=100, seed=0)


def test_training_tells_the_faces_apart_that_it_saw(run: RunDir, store: FaceStore) -> None:
    before, after = (verified(run, store, step) for step in (0, 40))
    assert after.verification.auc > before.verification.auc
    assert after.verification.auc > 0.95


def test_figures_and_pictures_are_published(run: RunDir, store: FaceStore) -> None:
    result = verified(run, store, 40)
    assert 40 in run.evaluation_steps()
    metrics = json.loads((run.evaluation(40) / "metrics.json").read_text())
    assert metrics["verification"]["auc"] == result.verification.auc
    assert sum(metrics["d2_histogram"]["same"]) == result.verification.num_same
    assert metrics["roc"]["far"][-1] == metrics["roc"]["tar"][-1] == 1
    for name in ("roc.png", "d2.png"):
        assert (run.evaluation(40) / name).read_bytes().startswith(b"\x89PNG")


def test_the_same_checkpoint_gives_the_same_figures(run: RunDir, store: FaceStore) -> None:
    first = verified(run, store, 40)
    assert np.array_equal(first.d2, verified(run, store, 40).d2)


def test_crops_of_another_size_are_refused(run: RunDir, folder: Path) -> None:
    publish_plainly(folder / "photos", folder / "larger", replace(WHOLE, crop_px=48))
    larger = FaceStore.open(folder / "larger", folder / "cache")
    with pytest.raises(CropMismatch, match="ingest with --crop-px 32"):
        verified(run, larger, 40)


def test_a_step_without_a_checkpoint_is_refused(run: RunDir, store: FaceStore) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        verified(run, store, 7)
