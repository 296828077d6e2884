"""`facequarry train`: go on with a run's training, without ingest and without evaluation."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import parse


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Go on with a run's training, queue and miner beside it, from its own config.json."""

    run: Path
    """The run's folder, such as runs/lfw."""
    steps: int | None = None
    """Optimizer steps of the whole run; None takes the run's own."""
    resume_from: int | None = None
    """Step of the checkpoint to go on from, setting aside what came after; None: the newest."""


def run(flags: Sequence[str]) -> int:
    """Train to the last step and print the closing table."""
    args = parse(Train, flags, prog="facequarry train")
    from facequarry.jobs.state.runs_on_disk import read_run

    where = RunDir(args.run.resolve())
    config = read_run(where)
    steps = config.trainer.steps if args.steps is None else args.steps
    newest = max(where.checkpoint_steps(), default=0)
    if steps < 1:
        raise BadInput(f"--steps is {steps}, it must be 1 or more")
    if args.resume_from is None and newest >= steps:
        at = (
            f"at its last step, {steps}" if newest == steps else f"beyond step {steps}, at {newest}"
        )
        raise BadInput(
            f"{where.root} is {at}; give more with --steps, or an earlier checkpoint with "
            "--resume-from"
        )
    config = replace(
        config,
        name=where.root.name,
        runs=where.root.parent,
        trainer=replace(config.trainer, steps=steps),
    )
    from facequarry.jobs.pipeline import train_on

    console = Console()
    console.print(trained_table(train_on(config, resume_from=args.resume_from)))
    folder = shlex.quote(min(str(args.run), str(where.root), key=len))
    # Below the table: a command that a cell wraps cannot be copied.
    console.print(
        f"evaluate it: facequarry evaluate --run {folder}", soft_wrap=True, highlight=False
    )
    return 0


def trained_table(where: RunDir) -> Table:
    """Return what the last attempt of a run did, from its events."""
    from facequarry.datasets.disk.progress import duration
    from facequarry.datasets.runs.events import last_attempt_by_step, read_events
    from facequarry.datasets.runs.record import wait_share
    from facequarry.datasets.runs.refreshes import published
    from facequarry.jobs.reports.report import OF_TRAINING_TIME
    from facequarry.jobs.state.runs_on_disk import last_attempt

    attempt = last_attempt(where)
    trainer = [e for e in read_events(where.events, "trainer") if e["attempt"] == attempt]
    miner = [e for e in read_events(where.events, "miner") if e["attempt"] == attempt]
    steps = last_attempt_by_step(trainer, "step")
    spent = sum(event["step_s"] for event in steps)
    table = Table(title=f"Run {where.root.name}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    if steps:
        first, last = steps[0], steps[-1]
        table.add_row("steps", f"{first['step']} to {last['step'] + 1} in {duration(spent)}")
        table.add_row("loss (d2)", f"{first['loss_d2']:.4f} at first, {last['loss_d2']:.4f} now")
        table.add_row("still semi-hard", f"{100 * last['in_band_share']:.1f} %")
        table.add_row("waiting for data", f"{100 * wait_share(trainer):.1f} % {OF_TRAINING_TIME}")
        stale = [event["staleness_steps"] for event in steps if "staleness_steps" in event]
        if stale:
            table.add_row("staleness", f"at most {max(stale)} steps")
    table.add_row("refreshes in this attempt", str(len(published(miner))))
    restarts = [e for e in read_events(where.events, "driver") if e["event"] == "restart"]
    restarts = [event for event in restarts if event["attempt"] == attempt]
    table.add_row("lost groups of workers", str(len(restarts)))
    table.add_row("checkpoint", f"step {where.checkpoint_steps()[-1]}")
    return table
