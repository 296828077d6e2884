"""What came of a run: its closing table and its pictures, all from what is on disk."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facequarry.datasets.generations.triplets import CorruptGeneration
from facequarry.datasets.runs.consumed import Consumed, by_generation
from facequarry.datasets.runs.events import last_attempt_by_step, read_events
from facequarry.datasets.runs.record import read_record
from facequarry.datasets.runs.refreshes import published
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.datasets.runs.staleness import (
    longest_refresh_steps,
    num_steps_past_limit,
)
from facequarry.datasets.runs.vocabulary import WHEN_CONSUMED
from facequarry.jobs.config import RunConfig
from facequarry.jobs.pictures.generation_pictures import draw_generation
from facequarry.jobs.state.runs_on_disk import snapshots_of
from facequarry.trainer.batch.run_faces import RunFaces
from facequarry.trainer.evaluation.plots import (
    d2_histograms_before_after,
    loss_curve,
    roc,
    shares,
    staleness,
)
from facequarry.trainer.evaluation.result import Evaluation
from facequarry.trainer.evaluation.verification import least_far

OF_TRAINING_TIME = "of the training time, but for the first step of each start"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """The figures of a finished run."""

    root: Path
    identities: int
    faces: int
    """Of the snapshot that the run started with."""
    rejects: dict[str, int]
    """Rejected photos by reason."""
    snapshots: str
    """`1`, or `1, mining snapshot 3` where faces were added since the run started."""
    refreshes: int
    failed_refreshes: int
    longest_refresh_steps: int
    """Most training steps that one refresh took."""
    rows_by_kind: dict[str, int]
    """Mined triplets of all generations by what they were when mined."""
    steps: int
    triplets_consumed: int
    repeats: int
    """Consumed rows that their generation had served before."""
    max_staleness_steps: int
    staleness_bound_steps: int
    """What staleness stays below, from N, M and the prefetch of this run."""
    max_staleness_limit_steps: int | None
    """`refresh.max_staleness_steps`."""
    steps_past_limit: int
    """Steps that trained on rows older than that."""
    consumed: list[Consumed]
    """What became of each generation when it was trained on."""
    wait_share: float
    """Share of the training time spent waiting for batches, as `record.wait_share` has it."""
    before: Evaluation
    after: Evaluation
    pictures: dict[str, Path]


def make_report(
    config: RunConfig, run: RunDir, faces: RunFaces, before: Evaluation, after: Evaluation
) -> RunReport:
    """Gather a finished run's figures from its events and draw its pictures."""
    record = read_record(run)
    trainer, miner, queue = (record.events[writer] for writer in ("trainer", "miner", "queue"))
    steps = last_attempt_by_step(trainer, "step")
    limit = config.refresh.max_staleness_steps
    bound = record.staleness_bound_steps or 0
    return RunReport(
        root=run.root,
        identities=faces.first.num_identities,
        faces=faces.first.num_faces,
        rejects=faces.first.rejects,
        snapshots=snapshots_of(run),
        refreshes=record.num_published,
        failed_refreshes=record.failed_refreshes,
        longest_refresh_steps=longest_refresh_steps(trainer, miner, queue),
        steps=len(steps),
        rows_by_kind=rows_by_kind(miner),
        triplets_consumed=sum(event["num_triplets"] for event in steps),
        repeats=sum(event["repeats"] for event in steps),
        max_staleness_steps=max((e.get("staleness_steps", 0) for e in steps), default=0),
        staleness_bound_steps=bound,
        max_staleness_limit_steps=limit,
        steps_past_limit=num_steps_past_limit(trainer, queue, limit),
        consumed=by_generation(steps),
        wait_share=record.wait_share,
        before=before,
        after=after,
        pictures=draw(config, run, faces, steps, bound, before, after),
    )


def draw(
    config: RunConfig,
    run: RunDir,
    faces: RunFaces,
    steps: list[dict[str, Any]],
    bound: int,
    before: Evaluation,
    after: Evaluation,
) -> dict[str, Path]:
    """Draw a run's pictures into `pictures/`; return them by name."""
    folder = run.pictures
    at = [event["step"] for event in steps]
    switches = last_attempt_by_step(read_events(run.events, "queue"), "switch")
    taken_over = [event["first_step"] for event in switches]
    pictures = {"loss": folder / "loss.png"}
    loss_curve(at, [event["loss_d2"] for event in steps], taken_over, pictures["loss"])
    if any(event["num_triplets"] for event in steps):
        pictures["consumed"] = folder / "consumed.png"
        kinds = {
            kind.label: [event[f"{kind.name}_share"] for event in steps] for kind in WHEN_CONSUMED
        }
        counts = [event["num_triplets"] for event in steps]
        shares(at, kinds, counts, taken_over, pictures["consumed"])
    pictures["roc"] = folder / "roc.png"
    curves = {f"step {evaluation.step}": evaluation.roc for evaluation in (before, after)}
    roc(curves, pictures["roc"], least_far=least_far(after.verification.num_different))
    pictures["d2"] = folder / "d2.png"
    d2_histograms_before_after(before.split_d2, after.split_d2, pictures["d2"])
    numbers = run.generation_numbers()
    if numbers:
        ages = [event.get("staleness_steps") for event in steps]
        if any(age is not None for age in ages):  # a fast training may end before its first rows
            pictures["staleness"] = folder / "staleness.png"
            staleness(at, ages, bound, pictures["staleness"])
        with contextlib.suppress(CorruptGeneration):  # never served: the queue says why
            pictures |= draw_generation(run, faces, numbers[-1])
    return pictures


def rows_by_kind(miner: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count the mined triplets of all generations by what they were when mined."""
    kinds: Counter[str] = Counter()
    for event in published(miner):
        kinds.update(event.get("rows_by_kind", {}))
    return {kind: count for kind, count in kinds.items() if count}
