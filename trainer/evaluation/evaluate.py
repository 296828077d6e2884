"""Evaluate a checkpoint on people it was not trained on: pairs that are drawn, or a file's.

facequarry evaluate --run runs/lfw
facequarry evaluate --run runs/lfw --pairs pairs.txt --held-out-only
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.checkpoints.checkpoint import load_model
from facequarry.trainer.evaluation.face_pairs import (
    BoolArray,
    IntArray,
    pair_d2,
    verification_pairs,
)
from facequarry.trainer.evaluation.folds import identity_folds
from facequarry.trainer.evaluation.pairs_faces import FacePairs
from facequarry.trainer.evaluation.result import Evaluation, PairsSource, publish_evaluation
from facequarry.trainer.evaluation.verification import Retrieval, retrieval, verify
from facequarry.trainer.network.embed import embed

# Different pairs are plenty and TAR at a small FAR needs many: 10 / FAR of them.
_DIFFERENT_PER_SAME = 20
# Retrieval compares all faces with all: its time grows with the square.
RETRIEVAL_FACES = 20_000
# What decides how a face looks in its crop; other options decide which faces there are.
_MAKING = ("detector", "detector_options", "margin_px", "choice", "min_face_px")

OnProgress = Callable[[int], None]


class CropMismatch(BadInput):
    """A checkpoint was trained on crops of another size."""


class AlignmentMismatch(BadInput):
    """A checkpoint was trained on crops that were aligned in another way."""


def evaluate(
    run: RunDir,
    store: FaceStore,
    face_indices: npt.NDArray[np.int64],
    *,
    step: int,
    part: str,
    max_pairs: int,
    seed: int,
    faces: str | None = None,
    inputs_sha256: str | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Verify drawn pairs of faces with the checkpoint of `step`; publish figures and pictures.

    Args:
        run: where the checkpoint lies and `evaluations/step=.../` is written.
        store: the faces.
        face_indices: (N,) int64, the faces of identities that were not trained on.
        step: the checkpoint's step.
        part: what the faces are called in the figures and in the folder's name.
        max_pairs: most same-identity pairs; there are up to 20 times as many different ones.
        seed: of the pairs and folds; the same pairs for every step.
        faces: name of the faces, where they are not the run's.
        inputs_sha256: of what the folder's name stands for, where another may have the same.
        on_progress: told the number of faces embedded so far.

    Raises:
        NotFound: there is no such checkpoint.
        CorruptCheckpoint, CheckpointMismatch: its weights are damaged, or not the backbone's.
        CropMismatch: the checkpoint saw crops of another size.
        BadInput: fewer than two identities, or none with two faces.
    """
    pairs = verification_pairs(
        store.identity_index[face_indices],
        max_pairs=max_pairs,
        seed=seed,
        different_per_same=_DIFFERENT_PER_SAME,
    )
    return _judge(
        run,
        store,
        _Rows(face_indices=face_indices, left=pairs.left, right=pairs.right, is_same=pairs.is_same),
        step=step,
        part=part,
        seed=seed,
        faces=faces,
        inputs_sha256=inputs_sha256,
        on_progress=on_progress,
    )


def evaluate_pairs(
    run: RunDir,
    store: FaceStore,
    pairs: FacePairs,
    source: PairsSource,
    *,
    step: int,
    part: str,
    seed: int,
    faces: str | None = None,
    inputs_sha256: str | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Verify a file's pairs with the checkpoint of `step`; publish figures and pictures.

    Retrieval searches each face that a pair has among all the others.

    Args:
        run: as for `evaluate`.
        store: the faces.
        pairs: of people who were not trained on; with the file's folds, or None to draw some.
        source: where the pairs come from.
        step: the checkpoint's step.
        part: what the pairs are called in the folder's name, such as `pairs-pairsDevTrain`.
        seed: of the folds, where the file has none.
        faces: name of the faces, where they are not the run's.
        inputs_sha256: of what the folder's name stands for, where another may have the same.
        on_progress: told the number of faces embedded so far.

    Raises:
        as `evaluate` does.
    """
    face_indices = pairs.face_indices
    rows = _Rows(
        face_indices=face_indices,
        left=np.searchsorted(face_indices, pairs.left),
        right=np.searchsorted(face_indices, pairs.right),
        is_same=pairs.is_same,
        fold_of=pairs.fold_of,
    )
    return _judge(
        run,
        store,
        rows,
        step=step,
        part=part,
        seed=seed,
        faces=faces,
        inputs_sha256=inputs_sha256,
        source=source,
        on_progress=on_progress,
    )


def check_made_alike(trained: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Compare how the faces of training and others were made; return what differs, in words.

    Args:
        trained: `Snapshot.options` of the faces that the checkpoint was trained on.
        found: those of the faces that it is to judge.

    Raises:
        AlignmentMismatch: the crops were aligned in another way, so they show other things.
    """
    if trained["alignment"] != found["alignment"]:
        raise AlignmentMismatch(
            f"the checkpoint was trained on faces with alignment {trained['alignment']!r}, these "
            f"have {found['alignment']!r}; ingest with --alignment {trained['alignment']} and a "
            "detector that can give it"
        )
    return [
        f"{name} is {found.get(name)}, {trained.get(name)} for the faces trained on"
        for name in _MAKING
        if found.get(name) != trained.get(name)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rows:
    """Faces, and pairs of them as row numbers of their embeddings."""

    face_indices: IntArray
    left: IntArray
    right: IntArray
    is_same: BoolArray
    fold_of: IntArray | None = None
    """None where they are to be dealt out."""


def _judge(
    run: RunDir,
    store: FaceStore,
    rows: _Rows,
    *,
    step: int,
    part: str,
    seed: int,
    faces: str | None,
    inputs_sha256: str | None,
    on_progress: OnProgress | None,
    source: PairsSource | None = None,
) -> Evaluation:
    """Embed the faces, measure the pairs and publish what came of it."""
    model = _load(run, step, store)
    embeddings = embed(model, store, rows.face_indices, on_progress=on_progress)
    identities = store.identity_index[rows.face_indices]
    d2 = pair_d2(embeddings, rows.left, rows.right)
    fold_of = rows.fold_of
    if fold_of is None:
        fold_of = identity_folds(identities[rows.left], identities[rows.right], seed=seed)
    if fold_of is None:  # too few people: one fold for all of them, and no accuracy
        fold_of = np.zeros(len(d2), dtype=np.int64)
    result = Evaluation(
        step=step,
        part=part,
        num_identities=len(np.unique(identities)),
        num_faces=len(identities),
        verification=verify(d2, rows.is_same, fold_of),
        retrieval=_retrieval_of_some(embeddings, identities, seed=seed),
        d2=d2,
        is_same=rows.is_same,
        pairs=source,
        faces=faces,
        inputs_sha256=inputs_sha256,
    )
    publish_evaluation(run, result)
    return result


def _load(run: RunDir, step: int, store: FaceStore) -> nn.Module:
    model, manifest = load_model(run.checkpoint(step))
    if manifest["crop_px"] != store.crop_px:
        raise CropMismatch(
            f"checkpoint {step} was trained on crops of {manifest['crop_px']} px, these faces have "
            f"{store.crop_px} px; ingest with --crop-px {manifest['crop_px']}"
        )
    return model


def _retrieval_of_some(
    embeddings: npt.NDArray[np.float32], identities: npt.NDArray[np.integer], *, seed: int
) -> Retrieval:
    """Search among whole identities, drawn until they have RETRIEVAL_FACES faces."""
    if len(identities) > RETRIEVAL_FACES:
        names, counts = np.unique(identities, return_counts=True)
        order = np.random.default_rng(seed).permutation(len(names))
        enough = np.searchsorted(np.cumsum(counts[order]), RETRIEVAL_FACES) + 1
        chosen = np.isin(identities, names[order[:enough]])
        embeddings, identities = embeddings[chosen], identities[chosen]
    return retrieval(embeddings, identities)
