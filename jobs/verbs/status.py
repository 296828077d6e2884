"""`facequarry status`: what the runs are doing, from their folders alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from datasets.events import read_events
from datasets.lock import is_held
from datasets.progress import duration
from datasets.publish import read_manifest
from datasets.run_dir import METRICS, RunDir
from jobs.config import parse
from jobs.runs_on_disk import read_run, snapshots_of
from miner.staleness import num_failed_refreshes

_LOG_WIDTH = 140
_COLUMNS = (
    "run",
    "state",
    "step",
    "loss",
    "in band",
    "refreshes",
    "stale",
    "snapshot",
    "AUC",
    "moved",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """One line a run: step, loss, refreshes, staleness, when it last moved."""

    runs: Path = Path("runs")
    """Folder of all runs."""
    run: str | None = None
    """Only this one."""


def run(flags: Sequence[str]) -> int:
    """Print the table of runs."""
    args = parse(Status, flags, prog="facequarry status")
    folders = sorted(path.parent for path in args.runs.glob("*/config.json"))
    if args.run is not None:
        folders = [folder for folder in folders if folder.name == args.run]
    if not folders:
        what = "no run" if args.run is None else f"no run {args.run}"
        raise FileNotFoundError(f"{what} under {args.runs}; try: make demo")
    table = Table(box=None, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, no_wrap=True)
    unreadable: list[str] = []
    for folder in folders:
        try:
            table.add_row(folder.name, *status_cells(RunDir(folder), now=time.time()))
        except (OSError, ValueError, LookupError, TypeError) as error:
            table.add_row(folder.name, "unreadable")
            unreadable.append(f"{folder.name}: {_sentence(error)}")
    # A log has no width of its own; on a narrow terminal rich shortens the cells.
    console = Console(width=None if sys.stdout.isatty() else _LOG_WIDTH)
    console.print(table)
    for line in unreadable:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return 0


def _sentence(error: Exception) -> str:
    # A KeyError's text is the key alone.
    return f"a file lacks {error}" if isinstance(error, LookupError) else str(error)


def status_cells(where: RunDir, *, now: float) -> list[str]:
    """Return a run's cells, those of `_COLUMNS` after its name.

    Raises:
        OSError, ValueError, LookupError, TypeError: a file of the run is damaged or gone.
    """
    config = read_run(where)
    is_driven = is_held(where.driver_lock)  # looked at first: an end is logged before it is freed
    driver = read_events(where.events, "driver")
    trainer = read_events(where.events, "trainer")
    miner = read_events(where.events, "miner")
    steps = [event for event in trainer if event["event"] == "step"]
    last = steps[-1] if steps else None
    if driver and driver[-1]["event"] == "end":
        state = str(driver[-1]["reason"])[:40]
    elif not is_driven:
        state = "stopped"  # its driver was killed: nobody logged an end
    else:
        state = "training" if steps else "starting"
    failed = num_failed_refreshes(miner)
    published = sum(event["event"] == "published" for event in miner)
    moved = max((events[-1]["time"] for events in (driver, trainer, miner) if events), default=None)
    evaluated = where.evaluation_steps()
    auc = ""
    if evaluated:
        metrics = read_manifest(where.evaluation(evaluated[-1]) / METRICS)
        auc = f"{metrics['verification']['auc']:.3f}"
    return [
        state,
        f"{last['step'] + 1 if last else 0}/{config.trainer.steps}",
        f"{last['loss_d2']:.4f}" if last else "",
        f"{100 * last['in_band_share']:.0f} %" if last else "",
        f"{published}" + (f" ({failed} failed)" if failed else ""),
        str(last.get("staleness_steps", "")) if last else "",
        snapshots_of(where),
        auc,
        "" if moved is None else f"{duration(max(0.0, now - moved))} ago",
    ]
