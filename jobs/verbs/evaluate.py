"""`facequarry evaluate`: verify identities that a run never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from jobs.config import parse


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """Verify pairs of held-out faces with one of a run's checkpoints."""

    run: Path
    """The run's folder, such as runs/lfw."""
    step: int | None = None
    """Which checkpoint; None takes the newest."""
    part: Literal["held_out", "tuning"] | None = None
    """Which identities; None takes what the run's configuration says."""


def run(flags: Sequence[str]) -> int:
    """Evaluate and print the figures and the paths of the pictures."""
    args = parse(Evaluate, flags, prog="facequarry evaluate")
    from datasets.run_dir import RunDir
    from jobs.pipeline import faces_of
    from jobs.runs_on_disk import read_run
    from trainer.evaluate import evaluate

    where = RunDir(args.run.resolve())
    config = read_run(where)
    steps = where.checkpoint_steps()
    if not steps:
        raise FileNotFoundError(f"{where.root} has no checkpoint yet; start it with facequarry run")
    part = args.part or config.evaluation.part
    store = faces_of(config, where).open()
    result = evaluate(
        where,
        store,
        config.split.faces(store, part),
        step=steps[-1] if args.step is None else args.step,
        part=part,
        max_pairs=config.evaluation.max_pairs,
        seed=config.seed,
    )
    figures, found = result.verification, result.retrieval
    table = Table(
        title=f"{where.root.name}, step {result.step}, {part.replace('_', '-')} identities",
        show_header=False,
        title_justify="left",
    )
    table.add_row("identities, faces", f"{result.num_identities}, {result.num_faces}")
    table.add_row("same, different pairs", f"{figures.num_same}, {figures.num_different}")
    table.add_row("AUC", f"{figures.auc:.4f}")
    table.add_row("EER", f"{figures.eer:.4f}")
    for far, tar in figures.tar_at_far.items():
        table.add_row(f"TAR at FAR {far}", "n/a (too few pairs)" if tar is None else f"{tar:.4f}")
    table.add_row("accuracy, 10 folds", f"{figures.accuracy:.4f} +- {figures.accuracy_std:.4f}")
    table.add_row("threshold", f"d2 {figures.threshold_d2:.3f}")
    table.add_row(
        "confusion at it",
        f"same: {figures.true_accepts} accepted, {figures.false_rejects} rejected; "
        f"different: {figures.true_rejects} rejected, {figures.false_accepts} accepted",
    )
    table.add_row("precision@1, MAP@R", f"{found.precision_at_1:.4f}, {found.map_at_r:.4f}")
    console = Console()
    console.print(table)
    for path in sorted(where.evaluation(result.step, part).glob("*.png")):
        console.print(f"{path.stem:<10} {path}", soft_wrap=True, highlight=False)
    return 0
