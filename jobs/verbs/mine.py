"""`facequarry mine`: one refresh by hand, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from datasets.run_dir import RunDir
from jobs.config import parse


@dataclass(frozen=True, kw_only=True, slots=True)
class Mine:
    """Mine a checkpoint of a run and publish the next generation."""

    run: Path
    """The run's folder, such as runs/lfw."""
    step: int | None = None
    """Which checkpoint; None takes the newest."""


def run(flags: Sequence[str]) -> int:
    """Mine once; exit code 0 also where another refresh holds the run's lock."""
    args = parse(Mine, flags, prog="facequarry mine")
    from datasets.events import EventLog
    from datasets.lock import LockHeld
    from jobs.pipeline import faces_of, refresh_plan
    from jobs.report import draw_generation
    from jobs.runs_on_disk import last_attempt, read_run
    from miner.journal import next_generation_number
    from miner.refresh import make_generation, mining
    from trainer.faces import RunFaces

    console = Console()
    where = RunDir(args.run.resolve())
    config = read_run(where)
    steps = where.checkpoint_steps()
    if not steps:
        raise FileNotFoundError(f"{where.root} has no checkpoint yet; start it with facequarry run")
    step = steps[-1] if args.step is None else args.step
    if step not in steps:
        raise ValueError(f"no checkpoint of step {step}; there are {', '.join(map(str, steps))}")
    faces = RunFaces(faces_of(config, where))
    try:
        with mining(where):
            number = next_generation_number(where)
            log = EventLog(where.events, "miner", attempt=last_attempt(where))
            make_generation(where, faces, refresh_plan(config), step=step, number=number, log=log)
    except LockHeld as held:
        console.print(f"nothing to do: {held}", soft_wrap=True, highlight=False)
        return 0
    console.print(generation_table(where, number))
    for name, path in draw_generation(where, faces, number, margin=config.miner.margin).items():
        console.print(f"{name:<10} {path}", soft_wrap=True, highlight=False)
    return 0


def generation_table(where: RunDir, number: int) -> Table:
    """Return a generation's counts as a table."""
    from datasets.triplets import read_generation_manifest

    manifest = read_generation_manifest(where.generation(number))
    stats, timing = manifest["stats"], manifest["timing"]
    table = Table(title=f"Generation {number}", show_header=False, title_justify="left")
    table.add_row("mined at step", str(manifest["mined_at_step"]))
    table.add_row("snapshot of the faces", str(manifest["snapshot"]))
    table.add_row("faces, identities", f"{stats['num_embedded']}, {stats['num_identities']}")
    table.add_row("engine", " ".join(filter(None, (stats["engine"], stats["index"]))))
    table.add_row("anchors, pairs", f"{stats['num_anchors']}, {stats['pairs']}")
    for name in ("semi_hard", "band_empty", "beyond_search", "suspect"):
        share = 100 * stats[name] / max(stats["pairs"], 1)
        table.add_row(name.replace("_", " ") + " pairs", f"{stats[name]} ({share:.1f} %)")
    if stats["recall_vs_exact"] is not None:
        table.add_row("recall against exact", f"{stats['recall_vs_exact']:.3f}")
    kinds = ", ".join(f"{kind.replace('_', '-')} {n}" for kind, n in stats["rows_by_kind"].items())
    table.add_row("triplets", f"{manifest['rows']}: {kinds}")
    table.add_row("seconds", ", ".join(f"{name[:-2]} {s:.1f}" for name, s in timing.items()))
    return table
