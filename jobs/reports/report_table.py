"""The closing tables of a run: what was mined, what was consumed, what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from facequarry.datasets.runs.consumed import Consumed
from facequarry.datasets.runs.vocabulary import KINDS, WHEN_CONSUMED
from facequarry.jobs.reports.report import OF_TRAINING_TIME, RunReport

_LEGEND = (
    "semi/hard/easy: what the triplets were in the trainer's own forward pass when consumed; "
    "first: still semi-hard in the generation's first step; age in steps"
)


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
    if report.triplets_consumed:
        table.add_row("consumed triplets were", _shares(report.consumed))
    if report.refreshes:
        kinds = ", ".join(
            f"{kind.label} {report.rows_by_kind[kind.name]}"
            for kind in KINDS
            if kind.name in report.rows_by_kind
        )
        table.add_row("triplets mined", kinds or "none")
        table.add_row(
            "refreshes",
            f"{report.refreshes}, {report.failed_refreshes} failed; the longest took "
            f"{report.longest_refresh_steps} steps of training",
        )
        table.add_row(
            "staleness",
            f"at most {report.max_staleness_steps} steps, bound {report.staleness_bound_steps}",
        )
        if report.max_staleness_limit_steps is not None:
            limit = f"{report.steps_past_limit} (limit {report.max_staleness_limit_steps})"
            table.add_row("steps past the limit", limit)
    table.add_row("waiting for data", f"{100 * report.wait_share:.1f} % {OF_TRAINING_TIME}")
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


def generations_table(consumed: Sequence[Consumed]) -> Table:
    """Return what became of each generation when it was trained on, a row each."""
    table = Table(
        title="Generations, when consumed",
        title_justify="left",
        caption=_LEGEND,
        caption_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for column in ("gen", "steps", "triplets (repeats)", "age", "loss"):
        table.add_column(column, justify="right", overflow="fold")  # a figure is never cut off
    for column in ("semi/hard/easy %", "first %"):
        table.add_column(column, justify="right", overflow="fold")
    for one in consumed:
        shares = (one.overall.in_band, one.overall.now_hard, one.overall.now_easy)
        table.add_row(
            "none" if one.generation is None else str(one.generation),
            _range(one.first_step, one.last_step),
            f"{one.num_triplets} ({one.repeats})",
            _range(one.min_staleness_steps, one.max_staleness_steps),
            f"{one.mean_loss_d2:.4f}",
            "/".join(f"{100 * share:.0f}" for share in shares),
            f"{100 * one.at_takeover.in_band:.0f}",
        )
    return table


def print_report(report: RunReport, console: Console) -> None:
    """Print the tables, and where the pictures are."""
    if report.refreshes:
        console.print(generations_table(report.consumed))
    console.print(report_table(report))
    for name, path in report.pictures.items():
        console.print(f"{name:<10} {path}", soft_wrap=True, highlight=False)


def _shares(consumed: Sequence[Consumed]) -> str:
    """Say what all consumed triplets were to the network that trained on them."""
    total = sum(one.num_triplets for one in consumed)

    def mean(name: str) -> str:
        return _percent(
            sum(getattr(one.overall, name) * one.num_triplets for one in consumed) / total
        )

    kinds = ", ".join(f"{mean(kind.name)} {kind.label}" for kind in WHEN_CONSUMED)
    return f"{kinds} in the trainer's own forward pass; {mean('active')} had a loss"


def _range(first: int | None, last: int | None) -> str:
    return "" if first is None else str(first) if first == last else f"{first}–{last}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
