"""`facequarry status`: what the runs are doing, from their folders alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from facequarry.datasets.disk.errors import NotFound
from facequarry.datasets.disk.lock import is_held
from facequarry.datasets.disk.progress import duration
from facequarry.datasets.ingest.faces_root import WRITER_LOCK
from facequarry.datasets.runs.record import UNREADABLE, what_is_wrong
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import parse
from facequarry.jobs.state.run_state import RunState, read_state

_LOG_WIDTH = 140
_COLUMNS = (
    "run",
    "state",
    "step",
    "eta",
    "loss",
    "semi-hard",
    "stale",
    "generation",
    "refresh",
    "checkpoint",
    "AUC",
    "moved",
)
_LEGEND = (
    "semi-hard: share of the last step's triplets still semi-hard; stale: their age < its bound so "
    "far, in steps;\ngeneration: served of newest; refresh: how many so far, or the one in hand; "
    "AUC: at the step of its checkpoint; moved: last event"
)
_NOT_SHOWN = ("time", "attempt", "event", "stage", "step", "command")


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """What the runs are doing: one line a run, or one run at length."""

    runs: Path = Path("runs")
    """Folder of all runs."""
    run: str | None = None
    """Only this one, by name, with its last events."""


def run(flags: Sequence[str]) -> int:
    """Print the table of runs, or one run's facts."""
    args = parse(Status, flags, prog="facequarry status")
    folders = sorted(path for path in args.runs.glob("[!.]*") if path.is_dir())
    if args.run is not None:
        folders = [folder for folder in folders if folder.name == args.run]
    if not folders:
        what = "no run" if args.run is None else f"no run {args.run}"
        raise NotFound(f"{what} under {args.runs}; try: make demo")
    # A log has no width of its own; on a narrow terminal rich shortens the cells.
    console = Console(
        width=None if sys.stdout.isatty() else _LOG_WIDTH, highlight=False, markup=False
    )
    now, is_legend_due = time.time(), False
    table = Table(box=None, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, no_wrap=True)
    sentences: list[str] = []
    for folder in folders:
        if not RunDir(folder).config.is_file():
            table.add_row(folder.name, *unopened(folder))
            sentences.append(f"{folder.name}: no config.json yet, which training begins with")
            continue
        is_legend_due = args.run is None
        try:
            state = read_state(RunDir(folder))
        except UNREADABLE as error:
            table.add_row(folder.name, "unreadable")
            sentences.append(f"{folder.name}: {what_is_wrong(error)}")
            continue
        table.add_row(folder.name, *status_cells(state, now=now))
        if state.reason:
            sentences.append(f"{folder.name}: {state.reason}")
        if args.run is not None:
            table = long_view(folder.name, state, now=now)
    console.print(table)
    if is_legend_due:
        console.print(_LEGEND, soft_wrap=True)
    for line in sentences:
        console.print(line, soft_wrap=True)
    return 0


def unopened(folder: Path) -> list[str]:
    """Return the first cells of a folder that a run was not opened in: photos and faces come first.

    The demo has both in the run's own folder.
    """
    return ["ingesting" if is_held(folder / "faces" / WRITER_LOCK) else "no run yet"]


def status_cells(state: RunState, *, now: float) -> list[str]:
    """Return a run's cells, those of `_COLUMNS` after its name."""
    failed = f" ({state.failed_refreshes} failed)" if state.failed_refreshes else ""
    return [
        state.state,
        f"{state.step}/{state.steps}",
        "" if state.eta_s is None else duration(state.eta_s),
        _figure(state.loss_d2, ".4f"),
        _share(state.in_band_share),
        _of(state.staleness_steps, state.staleness_bound_steps, " < "),
        _of(state.serving, state.newest, " of "),
        (_refresh(state, now) or f"{state.refreshes}") + failed,
        _figure(state.checkpoint, "d"),
        _figure(state.auc, ".3f") and f"{state.auc:.3f} at {state.evaluated_step}",
        _ago(state.moved_at, now),
    ]


def long_view(name: str, state: RunState, *, now: float) -> Table:
    """Return a run's facts one a line, then its last events."""
    table = Table(title=f"Run {name}", show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    eta = "" if state.eta_s is None else f", {duration(state.eta_s)} to go"
    rate = "" if state.steps_per_s is None else f", {state.steps_per_s:.3g} steps/s{eta}"
    auc = _figure(state.auc, ".4f") and f"{state.auc:.4f} at step {state.evaluated_step}"
    for fact, value in (
        ("state", state.state),
        ("step", f"{state.step} of {state.steps}{rate}"),
        ("loss (d2)", _figure(state.loss_d2, ".4f")),
        ("still semi-hard", _share(state.in_band_share)),
        ("staleness, bound (steps)", _of(state.staleness_steps, state.staleness_bound_steps, ", ")),
        ("generation served, newest", _of(state.serving, state.newest, ", ")),
        ("refreshes", f"{state.refreshes}, {state.failed_refreshes} failed"),
        ("refresh in hand", _refresh(state, now) or "none"),
        ("lost groups of workers", str(state.restarts)),
        ("last checkpoint", "" if state.checkpoint is None else f"step {state.checkpoint}"),
        ("snapshot of the faces", state.snapshots),
        ("last evaluation, AUC", auc),
        ("last event", _ago(state.moved_at, now)),
    ):
        table.add_row(fact, value or "none yet")
    table.add_section()
    for event in state.recent:
        table.add_row(_ago(event["time"], now), _event_line(event))
    return table


def _event_line(event: Mapping[str, Any]) -> str:
    facts = [f"{key} {_fact(value)}" for key, value in event.items() if key not in _NOT_SHOWN]
    at = "" if event.get("step") is None else f" at step {event['step']}"
    return f"{event['stage']} {event['event']}{at}" + (f": {', '.join(facts)}" if facts else "")


def _fact(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _of(now: int | None, limit: int | None, between: str) -> str:
    if now is None and limit is None:
        return ""
    return f"{'none' if now is None else now}" + ("" if limit is None else f"{between}{limit}")


def _refresh(state: RunState, now: float) -> str:
    refresh = state.refresh
    if refresh is None:
        return ""
    return f"generation {refresh.generation} for {duration(max(0.0, now - refresh.since))}"


def _ago(then: float | None, now: float) -> str:
    return "" if then is None else f"{duration(max(0.0, now - then))} ago"
