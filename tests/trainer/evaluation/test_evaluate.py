from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import facequarry.trainer.evaluation.result
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.checkpoints.checkpoint import load_model
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.evaluation.evaluate import (
    AlignmentMismatch,
    CropMismatch,
    check_made_alike,
    evaluate,
    evaluate_pairs,
)
from facequarry.trainer.evaluation.face_pairs import pair_d2
from facequarry.trainer.evaluation.pairs_faces import FacePairs
from facequarry.trainer.evaluation.result import Evaluation, PairsSource, publish_evaluation
from facequarry.trainer.evaluation.verification import verify
from facequarry.trainer.network.embed import embed
from tests.datasets.photos import WHOLE, publish_plainly
from tests.trainer.stores import small_store, still, train_small


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def store(folder: Path) -> FaceStore:
    return small_store(folder)


@pytest.fixture(scope="module")
def run(folder: Path, store: FaceStore) -> RunDir:
    run = RunDir(folder / "run")
    config = TrainerConfig(embedding_dim=8, steps=40, batch=16, checkpoint_every=20)
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
    for name in ("roc.png", "d2.png", "confusion.png", "loss.png"):
        assert (run.evaluation(40) / name).read_bytes().startswith(b"\x89PNG")


def test_the_untrained_checkpoint_has_no_losses(run: RunDir, store: FaceStore) -> None:
    verified(run, store, 0)
    assert {path.name for path in run.evaluation(0).glob("*.png")} == {
        "roc.png",
        "d2.png",
        "confusion.png",
    }


def test_the_losses_mark_no_takeover_that_was_undone(
    run: RunDir, store: FaceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = RunDir(tmp_path / "run")
    shutil.copytree(run.root, other.root)
    queue = EventLog(other.events, "queue", attempt=1)
    for first in (5, 20):
        queue.write("switch", step=first, first_step=first)
    EventLog(other.events, "queue", attempt=2).write("rewound", step=10)
    EventLog(other.events, "queue", attempt=2).write("switch", step=25, first_step=25)
    marked: list[list[int]] = []
    monkeypatch.setattr(
        facequarry.trainer.evaluation.result,
        "loss_curve",
        lambda _x, _y, switches, _path: marked.append(switches),
    )
    publish_evaluation(other, verified(run, store, 40))
    assert marked[-1] == [5, 25]


def test_accuracy_leaves_out_pairs_between_folds_and_nothing_else_does(
    run: RunDir, store: FaceStore
) -> None:
    found = verified(run, store, 40).verification
    assert found.num_folds == 2  # 8 people, four in each
    assert found.num_left_out_same == 0
    assert 0 < found.num_left_out_different < found.num_different
    assert found.true_rejects + found.false_accepts == found.num_different


def some_pairs(store: FaceStore, fold_of: npt.NDArray[np.int64] | None) -> FacePairs:
    """Return a matched pair of each of the eight people, and one to the next."""
    first = np.searchsorted(np.sort(store.identity_index), np.arange(8))
    first = np.argsort(store.identity_index, kind="stable")[first]
    second = np.array(
        [np.flatnonzero(store.identity_index == person)[-1] for person in range(8)], dtype=np.int64
    )
    return FacePairs(
        left=np.concatenate([first, first]),
        right=np.concatenate([second, np.roll(first, 1)]),
        is_same=np.arange(16) < 8,
        fold_of=fold_of,
        rejected={},
    )


SOURCE = PairsSource(file="p.txt", sha256="0" * 64, num_pairs=16, has_folds=True)


def test_a_files_folds_are_used_as_they_are(run: RunDir, store: FaceStore) -> None:
    fold_of = np.tile(np.repeat(np.arange(4), 2), 2)
    pairs = some_pairs(store, fold_of)
    result = evaluate_pairs(run, store, pairs, SOURCE, step=40, part="pairs-p", seed=0)
    assert result.verification == verify(result.d2, pairs.is_same, fold_of)
    assert result.verification.num_folds == 4
    assert (result.num_identities, result.num_faces) == (8, 16)


def test_a_files_evaluation_is_no_held_out_one(run: RunDir, store: FaceStore) -> None:
    evaluate_pairs(
        run, store, some_pairs(store, None), SOURCE, step=20, part="pairs-p", seed=0, faces="other"
    )
    assert 20 not in run.evaluation_steps()
    metrics = json.loads((run.evaluation(20, "pairs-p") / "metrics.json").read_text())
    assert metrics["pairs_file"]["file"] == "p.txt"
    assert metrics["faces_folder"] == "other"
    assert metrics["verification"]["num_same"] == 8


def test_embeddings_belong_to_their_pairs(run: RunDir, store: FaceStore) -> None:
    pairs = some_pairs(store, None)
    result = evaluate_pairs(run, store, pairs, SOURCE, step=40, part="pairs-p", seed=0)
    model, _ = load_model(run.checkpoint(40))
    rows = embed(model, store, np.arange(store.num_faces))
    assert np.allclose(result.d2, pair_d2(rows, pairs.left, pairs.right), atol=1e-5)


OPTIONS = {"alignment": "box", "detector": "dlib-hog", "margin_px": 18}


def test_another_alignment_is_refused() -> None:
    with pytest.raises(AlignmentMismatch, match="'box', these have 'five-point'"):
        check_made_alike(OPTIONS, OPTIONS | {"alignment": "five-point"})


def test_another_detector_is_said() -> None:
    assert check_made_alike(OPTIONS, OPTIONS) == []
    assert check_made_alike(OPTIONS, OPTIONS | {"detector": "yunet"}) == [
        "detector is yunet, dlib-hog for the faces trained on"
    ]


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
