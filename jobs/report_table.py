"""The closing tables of a run: what was mined, what was consumed, what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from jobs.report import RunReport
from trainer.consumed import Consumed


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
        table.add_row("when consumed", _shares(report.consumed))
    if report.refreshes:
        kinds = ", ".join(
            f"{kind.replace('_', '-')} {n}" for kind, n in report.rows_by_kind.items()
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


def generations_table(consumed: Sequence[Consumed]) -> Table:
    """Return what became of each generation when it was trained on, a row each."""
    table = Table(title="Generations, when consumed", title_justify="left")
    for column in ("", "steps", "triplets", "repeats", "loss", "faces each", "age, steps"):
        table.add_column(column, justify="right")
    for column in ("semi-hard", "hard", "easy", "semi-hard at first"):
        table.add_column(column, justify="right")
    for one in consumed:
        ages = f"{one.min_staleness_steps} to {one.max_staleness_steps}"
        table.add_row(
            "none" if one.generation is None else str(one.generation),
            f"{one.first_step} to {one.last_step}",
            str(one.num_triplets),
            str(one.repeats),
            f"{one.mean_loss_d2:.4f}",
            "" if one.faces_per_triplet is None else f"{one.faces_per_triplet:.2f}",
            "" if one.max_staleness_steps is None else ages,
            *(_percent(s) for s in (one.overall.in_band, one.overall.now_hard)),
            *(_percent(s) for s in (one.overall.now_easy, one.at_takeover.in_band)),
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

    return (
        f"{mean('in_band')} still semi-hard, {mean('now_hard')} hard, {mean('now_easy')} easy; "
        f"{mean('active')} with a loss"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _figure(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
