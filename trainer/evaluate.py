"""Evaluate a checkpoint on identities that were not trained on: figures and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.faces import FaceStore
from datasets.publish import SCHEMA_VERSION, write_json
from datasets.run_dir import METRICS, RunDir
from trainer.checkpoint import load_model
from trainer.embed import embed
from trainer.pairs import pair_d2, verification_pairs
from trainer.plots import SplitD2, d2_histograms, roc
from trainer.verification import Retrieval, Verification, retrieval, roc_points, verify

# Different pairs are plenty and TAR at a small FAR needs many: 10 / FAR of them.
_DIFFERENT_PER_SAME = 20
_HISTOGRAM_BINS = 80
# Retrieval compares all faces with all: its time grows with the square.
RETRIEVAL_FACES = 20_000
_CURVE_POINTS = 400


class CropMismatch(ValueError):
    """A checkpoint was trained on crops of another size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One checkpoint's verification of one part of the identities."""

    step: int
    """The checkpoint's step."""
    part: str
    """Which identities: `held_out` or `tuning`."""
    num_identities: int
    num_faces: int
    verification: Verification
    retrieval: Retrieval
    d2: npt.NDArray[np.float32]
    """(P,) d2 of every verification pair."""
    is_same: npt.NDArray[np.bool_]
    """(P,) the pair shares its identity."""

    @property
    def split_d2(self) -> SplitD2:
        """The distances by kind, as the histograms take them."""
        return SplitD2(
            same=self.d2[self.is_same],
            different=self.d2[~self.is_same],
            threshold=self.verification.threshold_d2,
        )

    @property
    def roc(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """False and true accept rates, ascending."""
        return roc_points(self.d2, self.is_same)


def evaluate(
    run: RunDir,
    store: FaceStore,
    face_indices: npt.NDArray[np.int64],
    *,
    step: int,
    part: str,
    max_pairs: int,
    seed: int,
) -> Evaluation:
    """Verify pairs of faces with the checkpoint of `step` and publish figures and pictures.

    Args:
        run: where the checkpoint lies and `evaluations/step=.../` is written.
        store: the faces.
        face_indices: (N,) int64, the faces of identities that were not trained on.
        step: the checkpoint's step.
        part: what the faces are called in the figures.
        max_pairs: most same-identity pairs; there are up to 20 times as many different ones.
        seed: of the pairs and folds; the same pairs for every step.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        CropMismatch: the checkpoint saw crops of another size.
        ValueError: fewer than two identities, or none with two faces.
    """
    model, manifest = load_model(run.checkpoint(step))
    if manifest["crop_px"] != store.crop_px:
        raise CropMismatch(
            f"checkpoint {step} was trained on crops of {manifest['crop_px']} px, these faces have "
            f"{store.crop_px} px; ingest with --crop-px {manifest['crop_px']}"
        )
    identities = store.identity_index[face_indices]
    pairs = verification_pairs(
        identities, max_pairs=max_pairs, seed=seed, different_per_same=_DIFFERENT_PER_SAME
    )
    embeddings = embed(model, store, face_indices)
    d2 = pair_d2(embeddings, pairs.left, pairs.right)
    result = Evaluation(
        step=step,
        part=part,
        num_identities=len(np.unique(identities)),
        num_faces=len(face_indices),
        verification=verify(d2, pairs.is_same, seed=seed),
        retrieval=_retrieval_of_some(embeddings, identities, seed=seed),
        d2=d2,
        is_same=pairs.is_same,
    )
    _publish(run.evaluation(step, part), result)
    return result


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


def _publish(folder: Path, result: Evaluation) -> None:
    # An evaluation is derived: the same checkpoint and faces give it again, so it may be replaced.
    roc({f"step {result.step}": result.roc}, folder / "roc.png")
    d2_histograms(result.split_d2, folder / "d2.png", title=f"Pairs at step {result.step}")
    write_json(folder / METRICS, metrics_of(result), replace=True)


def metrics_of(result: Evaluation) -> dict[str, Any]:
    """Return what `metrics.json` holds: figures, and histograms and curve as they are drawn."""
    edges = np.linspace(0, 4, _HISTOGRAM_BINS + 1)
    far, tar = result.roc
    shown = np.unique(np.linspace(0, len(far) - 1, _CURVE_POINTS).astype(int))
    return {
        "schema_version": SCHEMA_VERSION,
        "step": result.step,
        "part": result.part,
        "identities": result.num_identities,
        "faces": result.num_faces,
        "verification": result.verification.to_dict(),
        "retrieval": result.retrieval.to_dict(),
        "d2_histogram": {
            "edges": edges.tolist(),
            "same": np.histogram(result.d2[result.is_same], edges)[0].tolist(),
            "different": np.histogram(result.d2[~result.is_same], edges)[0].tolist(),
        },
        "roc": {"far": far[shown].tolist(), "tar": tar[shown].tolist()},
    }
