"""One checkpoint's evaluation: its figures, its `metrics.json` and its pictures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facequarry.datasets.disk.publish import SCHEMA_VERSION, write_json
from facequarry.datasets.runs.events import last_attempt_by_step, read_events
from facequarry.datasets.runs.run_dir import METRICS, RunDir
from facequarry.trainer.evaluation.plots import (
    SplitD2,
    confusion_matrix,
    d2_histograms,
    loss_curve,
    roc,
)
from facequarry.trainer.evaluation.verification import (
    Retrieval,
    Verification,
    least_far,
    roc_points,
)

_HISTOGRAM_BINS = 80
_CURVE_POINTS = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class PairsSource:
    """The pairs file of an evaluation, and what became of its pairs."""

    file: str
    """The file's name."""
    sha256: str
    """Of its bytes."""
    num_pairs: int
    """Pairs in the file."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Pairs that no figure counts, by reason."""
    has_folds: bool
    """The folds are the file's own; else they are drawn."""
    num_in_several_folds: int = 0
    """People whom the file's folds share; LFW's share nobody."""
    num_tuning: int = 0
    """Pairs that count and touch people of the run's tuning part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """One checkpoint's verification of pairs of faces."""

    step: int
    """The checkpoint's step."""
    part: str
    """What was evaluated: `held_out`, `tuning`, or what its folder is called after the step."""
    num_identities: int
    num_faces: int
    verification: Verification
    retrieval: Retrieval
    d2: npt.NDArray[np.float32]
    """(P,) d2 of every verification pair."""
    is_same: npt.NDArray[np.bool_]
    """(P,) the pair shares its identity."""
    pairs: PairsSource | None = None
    """None where the pairs were drawn."""
    faces: str | None = None
    """Name of another folder of faces than the run's."""
    inputs_sha256: str | None = None
    """Tells pairs files, and folders of faces, of one name apart; None for the run's own faces."""

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


def publish_evaluation(run: RunDir, result: Evaluation) -> dict[str, Path]:
    """Draw an evaluation's pictures and write its metrics, last; return the pictures by name.

    An evaluation is derived: the same checkpoint and faces give it again, so it may be replaced.
    """
    folder = run.evaluation(result.step, result.part)
    pictures = {name: folder / f"{name}.png" for name in ("roc", "d2", "confusion", "loss")}
    at = f"step {result.step}"
    found = result.verification
    roc({at: result.roc}, pictures["roc"], least_far=least_far(found.num_different))
    d2_histograms(result.split_d2, pictures["d2"], title=f"Pairs at {at}")
    confusion_matrix(
        [[found.true_accepts, found.false_rejects], [found.false_accepts, found.true_rejects]],
        pictures["confusion"],
        title=f"Pairs at {at}, threshold d2 {found.threshold_d2:.2f}",
    )
    if not _draw_losses(run, result.step, pictures["loss"]):
        del pictures["loss"]
    write_json(folder / METRICS, metrics_of(result), replace=True)
    return pictures


def metrics_of(result: Evaluation) -> dict[str, Any]:
    """Return what `metrics.json` holds: figures, and histograms and curve as they are drawn."""
    edges = np.linspace(0, 4, _HISTOGRAM_BINS + 1)
    far, tar = result.roc
    shown = np.unique(np.linspace(0, len(far) - 1, _CURVE_POINTS).astype(int))
    metrics = {
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
    if result.pairs:
        metrics["pairs_file"] = asdict(result.pairs)
    if result.faces:
        metrics["faces_folder"] = result.faces
    if result.inputs_sha256:
        metrics["inputs_sha256"] = result.inputs_sha256
    return metrics


def _draw_losses(run: RunDir, step: int, path: Path) -> bool:
    """Draw the losses of the steps that made the checkpoint; false where none was logged."""
    # Steps count from 0: the checkpoint of step 60 is made of steps 0 to 59.
    logged = read_events(run.events, "trainer")
    steps = last_attempt_by_step(logged, "step")
    until = [event for event in steps if event["step"] < step and event["loss_d2"] is not None]
    if not until:
        return False
    takeovers = last_attempt_by_step(read_events(run.events, "queue"), "switch")
    loss_curve(
        [event["step"] for event in until],
        [event["loss_d2"] for event in until],
        [event["first_step"] for event in takeovers if event["first_step"] < step],
        path,
    )
    return True
