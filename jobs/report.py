"""What came of a run: its closing table and its pictures, all from what is on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from datasets.events import last_attempt_by_step, read_events
from datasets.run_dir import RunDir
from datasets.triplets import read_generation_manifest, read_table
from jobs.config import RunConfig
from jobs.runs_on_disk import snapshots_of
from miner.staleness import longest_refresh_steps, num_failed_refreshes, staleness_bound
from trainer.evaluate import Evaluation
from trainer.faces import RunFaces
from trainer.plots import d2_histograms_before_after, loss_curve, mining_histograms, roc, staleness
from trainer.triplet_page import TripletPicture, triplet_page

_PAGE_TRIPLETS = 10


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
    steps: int
    triplets_consumed: int
    repeats: int
    """Consumed rows that their generation had served before."""
    max_staleness_steps: int
    staleness_bound_steps: int
    """What staleness stays below, from N, M and the prefetch of this run."""
    wait_share: float
    """Share of the training time spent waiting for batches."""
    before: Evaluation
    after: Evaluation
    pictures: dict[str, Path]


def make_report(
    config: RunConfig, run: RunDir, faces: RunFaces, before: Evaluation, after: Evaluation
) -> RunReport:
    """Gather a finished run's figures from its events and draw its pictures."""
    trainer = read_events(run.events, "trainer")
    miner = read_events(run.events, "miner")
    steps = last_attempt_by_step([event for event in trainer if event["event"] == "step"])
    longest = longest_refresh_steps(trainer, miner)
    bound = staleness_bound(
        config.trainer.checkpoint_every,
        longest,
        prefetch=config.trainer.prefetch,
        is_carried=config.refresh.carry_over > 0,
        is_blocking=config.refresh.mode == "blocking",
    )
    spent = sum(event["step_s"] for event in steps)
    return RunReport(
        root=run.root,
        identities=faces.first.num_identities,
        faces=faces.first.num_faces,
        rejects=faces.first.rejects,
        snapshots=snapshots_of(run),
        refreshes=len(run.generation_numbers()),
        failed_refreshes=num_failed_refreshes(miner),
        longest_refresh_steps=longest,
        steps=len(steps),
        triplets_consumed=len(steps) * config.trainer.batch,
        repeats=sum(event["repeats"] for event in steps),
        max_staleness_steps=max((e.get("staleness_steps", 0) for e in steps), default=0),
        staleness_bound_steps=bound,
        wait_share=sum(event["wait_s"] for event in steps) / spent if spent else 0.0,
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
    taken_over = [e["first_step"] for e in read_events(run.events, "queue") if "first_step" in e]
    pictures = {"loss": folder / "loss.png"}
    loss_curve(at, [event["loss_d2"] for event in steps], taken_over, pictures["loss"])
    pictures["roc"] = folder / "roc.png"
    curves = {f"step {evaluation.step}": evaluation.roc for evaluation in (before, after)}
    roc(curves, pictures["roc"])
    pictures["d2"] = folder / "d2.png"
    d2_histograms_before_after(before.split_d2, after.split_d2, pictures["d2"])
    numbers = run.generation_numbers()
    if numbers:
        pictures["staleness"] = folder / "staleness.png"
        ages = [event.get("staleness_steps") for event in steps]
        staleness(at, ages, bound, pictures["staleness"])
        pictures |= draw_generation(run, faces, numbers[-1], margin=config.miner.margin)
    return pictures


def draw_generation(run: RunDir, faces: RunFaces, number: int, *, margin: float) -> dict[str, Path]:
    """Draw a generation's histograms and a page of its triplets; return them by name."""
    folder = run.generation(number)
    pictures = {}
    stats = read_generation_manifest(folder)["stats"]
    positives, negatives = stats["d2_ap_histogram"], stats["nearest_d2_an_histogram"]
    if sum(positives) and sum(negatives):
        pictures["mining"] = run.pictures / "mining.png"
        mining_histograms(
            positives,
            negatives,
            np.linspace(0, 4, len(positives) + 1),
            margin,
            pictures["mining"],
        )
    chosen = some_triplets(run, faces, number)
    if chosen:
        pictures["triplets"] = run.pictures / "triplets.png"
        triplet_page(chosen, margin, pictures["triplets"])
    return pictures


def some_triplets(run: RunDir, faces: RunFaces, number: int) -> list[TripletPicture]:
    """Return triplets spread evenly over a generation, with their crops."""
    store = faces.reach(read_generation_manifest(run.generation(number))["snapshot"])
    table = read_table(run.generation(number))
    count = min(_PAGE_TRIPLETS, table.num_rows)
    rows = table.take(np.linspace(0, table.num_rows - 1, count).astype(int)).to_pylist()
    pictures = []
    for row in rows:
        triplet = [row["anchor"], row["positive"], row["negative"]]
        crops = store.decode(triplet)
        names = [store.identities[store.identity_index[face]] for face in triplet]
        pictures.append(
            TripletPicture(
                crops=(crops[0], crops[1], crops[2]),
                names=(names[0], names[1], names[2]),
                d2_ap=row["d2_ap"],
                d2_an=row["d2_an"],
                kind=row["kind"],
            )
        )
    return pictures


def report_table(report: RunReport) -> Table:
    """Return the closing table."""
    rejects = ", ".join(f"{reason} {n}" for reason, n in sorted(report.rejects.items())) or "none"
    table = Table(title=f"Run {report.root.name}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_row("identities, faces", f"{report.identities}, {report.faces}")
    table.add_row("snapshot of the faces", report.snapshots)
    table.add_row("rejected photos", rejects)
    table.add_row(
        "triplets consumed",
        f"{report.triplets_consumed} in {report.steps} steps, {report.repeats} of them repeats",
    )
    if report.refreshes:
        table.add_row(
            "refreshes",
            f"{report.refreshes}, {report.failed_refreshes} failed; the longest took "
            f"{report.longest_refresh_steps} steps of training",
        )
        table.add_row(
            "staleness",
            f"at most {report.max_staleness_steps} steps, bound {report.staleness_bound_steps}",
        )
    table.add_row("waiting for data", f"{100 * report.wait_share:.1f} % of the training time")
    table.add_section()
    table.add_row(
        f"{report.after.part.replace('_', '-')} identities",
        f"{report.after.num_identities}, {report.after.num_faces} faces, "
        f"{report.after.verification.num_same} same and "
        f"{report.after.verification.num_different} different pairs",
    )
    was, now = report.before.verification, report.after.verification
    rows: list[tuple[str, float | None, float | None]] = [("AUC", was.auc, now.auc)]
    for far, tar in now.tar_at_far.items():
        rows.append((f"TAR at FAR {far}", was.tar_at_far[far], tar))
    rows.append(("accuracy", was.accuracy, now.accuracy))
    for name, before, after in rows:
        table.add_row(name, f"{_figure(before)} before training, {_figure(after)} after")
    return table


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
