"""Ways to choose triplets, at equal steps: mined, random, in-batch semi-hard; several seeds.

Each arm and seed is one `facequarry run` over `jobs/runs/lfw.toml`; the figures are those of people
who were not trained on, at several checkpoints. Finished runs are read again and interrupted ones
resumed, so the command may be stopped and repeated. Not part of `make bench`: on two CPU cores it
takes the better part of an hour.

    python -m benchmarks.training.arms --photos lfw/images --out runs-arms
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import tyro

from benchmarks.common import show
from facequarry.datasets.runs.events import last_attempt_by_step, read_events
from facequarry.datasets.runs.run_dir import METRICS, RunDir
from facequarry.datasets.runs.vocabulary import BLUE, GREEN, GREY, ORANGE
from facequarry.jobs.config import RunConfig, load_run_config
from facequarry.jobs.state.runs_on_disk import absolute, check_run, read_run
from facequarry.trainer.evaluation.figure import new_axes, new_figure, publish_figure

ARMS: dict[str, tuple[str, ...]] = {
    "mined": ("--trainer.no-add-in-batch", "--miner.positives-per-anchor", "1"),
    "mined-and-in-batch": ("--trainer.add-in-batch",),
    "random": ("--trainer.no-add-in-batch", "--trainer.selection", "random"),
    "in-batch": ("--trainer.no-add-in-batch", "--trainer.selection", "online_semi_hard"),
}
"""Flags of each arm over the run file, as they were best on the tuning people (docs/results.md)."""
_COLOURS = {"mined": ORANGE, "mined-and-in-batch": GREEN, "random": GREY, "in-batch": BLUE}
_COMMAND_TIMEOUT_S = 3600.0
_FIGURES = ("AUC", "TAR at FAR 1e-2", "TAR at FAR 1e-3")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arms:
    """Train every arm with every seed and print the table."""

    photos: Path
    """Folder of <identity>/<photo>, such as LFW's images."""
    out: Path = Path("runs-arms")
    """Folder of the runs and of the faces."""
    config: Path = Path("jobs/runs/lfw.toml")
    """Run file that all arms share."""
    steps: int = 800
    """Training steps of every arm."""
    at: tuple[int, ...] = (0, 400, 800)
    """Checkpoint steps that are evaluated."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; the split of the identities is the same for all."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Which arms: two commands may share the work, and a third prints the table of all."""
    part: str = "held_out"
    """Which people: `held_out`, or `tuning` while choosing settings."""


def train_arm(args: Arms, arm: str, seed: int) -> RunDir:
    """Run one arm with one seed to its end, unless it is there, and evaluate its checkpoints.

    Raises:
        ValueError: the run that is there was made with other settings.
        subprocess.TimeoutExpired, subprocess.CalledProcessError: a command did not end, or failed.
    """
    run = RunDir(args.out / f"{arm}-{seed}")
    flags = ["--name", run.root.name, "--runs", str(args.out)]
    flags += ["--photos", str(args.photos), "--faces", str(args.out / "faces")]
    flags += ["--seed", str(seed), "--trainer.steps", str(args.steps)]
    flags += ["--trainer.keep-checkpoints", "999", "--evaluation.part", args.part]
    flags += ARMS[arm]
    resume = ["--resume"] if run.config.exists() else []
    if resume:
        check_reusable(load_run_config(args.config, flags))
    if not _is_evaluated(run, args.steps, args.part):
        _facequarry("run", *resume, "--config", str(args.config), *flags)
    for step in args.at:
        if not _is_evaluated(run, step, args.part):
            _facequarry(
                "evaluate", "--run", str(run.root), "--step", str(step), "--part", args.part
            )
    return run


def check_reusable(config: RunConfig) -> None:
    """Check that a run that is there is the one asked for, as `run --resume` would.

    Raises:
        ValueError: it was made with other settings, or its figures are of other pairs.
    """
    run = check_run(absolute(config), resume=True)
    had, wanted = read_run(run).evaluation.max_pairs, config.evaluation.max_pairs
    if had != wanted:
        raise ValueError(
            f"{run.root} was evaluated with evaluation.max_pairs = {had}, now it is {wanted}; take "
            "the old value, or another --out"
        )


def _facequarry(*flags: str) -> None:
    command = [sys.executable, "-m", "facequarry.jobs", *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=_COMMAND_TIMEOUT_S)


def _is_evaluated(run: RunDir, step: int, part: str) -> bool:
    return (run.evaluation(step, part) / METRICS).is_file()


def figures_of(run: RunDir, step: int, part: str) -> dict[str, float | None]:
    """Return the figures of `_FIGURES` at one checkpoint; None where pairs were too few for one."""
    found = _verification(run, step, part)
    tar = found["tar_at_far"]
    return {
        "AUC": found["auc"],
        "TAR at FAR 1e-2": tar["1e-2"],
        "TAR at FAR 1e-3": tar["1e-3"],
    }


def _verification(run: RunDir, step: int, part: str) -> Mapping[str, Any]:
    metrics = json.loads((run.evaluation(step, part) / METRICS).read_text(encoding="utf-8"))
    found: Mapping[str, Any] = metrics["verification"]
    return found


def cost_of(run: RunDir) -> dict[str, float]:
    """Return what a step of the run took, medians and means over its steps."""
    steps = last_attempt_by_step(read_events(run.events, "trainer"), "step")
    return {
        "step_s": median(event["step_s"] for event in steps),
        "faces": mean(event["faces_per_s"] * event["step_s"] for event in steps),
        "hard": mean(event["now_hard_share"] or 0.0 for event in steps),
        "band": mean(event["in_band_share"] or 0.0 for event in steps),
    }


def spread(values: Sequence[float | None]) -> str:
    """Return mean and [lowest, highest]; `n/a` where a run has no such figure."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "n/a"
    return f"{mean(known):.3f} [{min(known):.3f}, {max(known):.3f}]"


def draw(args: Arms, runs: Mapping[str, Sequence[RunDir]], path: Path) -> None:
    """Draw the AUC of every arm over the steps, with the spread of the seeds."""
    figure = new_figure(7, 4)
    axes = new_axes(figure, "People not trained on", "step", "AUC")
    for arm, found in runs.items():
        curves = [[_verification(run, step, args.part)["auc"] for step in args.at] for run in found]
        columns = list(zip(*curves, strict=True))
        colour = _COLOURS[arm]
        axes.plot(args.at, [mean(column) for column in columns], color=colour, label=arm)
        low, high = [min(column) for column in columns], [max(column) for column in columns]
        axes.fill_between(args.at, low, high, color=colour, alpha=0.2, linewidth=0)
    publish_figure(figure, path)


def main() -> None:
    """Train what is missing, print the tables, draw the curves."""
    args = tyro.cli(Arms, prog="python -m benchmarks.training.arms", description=__doc__)
    try:
        # Seed by seed, so that an interrupted comparison holds whole seeds.
        found_by_seed = [
            {arm: train_arm(args, arm, seed) for arm in args.arms} for seed in args.seeds
        ]
    except (ValueError, subprocess.SubprocessError) as error:
        sys.exit(str(error))
    runs = {arm: [by_arm[arm] for by_arm in found_by_seed] for arm in args.arms}
    for name in _FIGURES:
        rows = []
        for arm, found in runs.items():
            at_steps = [
                [figures_of(run, step, args.part)[name] for run in found] for step in args.at
            ]
            rows.append((arm, *(spread(values) for values in at_steps)))
        show(
            f"{name}, {args.part} people, {len(args.seeds)} seeds",
            ("arm", *(f"step {step}" for step in args.at)),
            rows,
        )
    costs = {arm: [cost_of(run) for run in found] for arm, found in runs.items()}
    means = {
        arm: {name: mean(cost[name] for cost in found) for name in found[0]}
        for arm, found in costs.items()
    }
    show(
        "what a step took, means over the seeds",
        ("arm", "faces a step", "median step, ms", "still in band", "now hard"),
        [
            (
                arm,
                f"{cost['faces']:.0f}",
                f"{1000 * cost['step_s']:.0f}",
                f"{100 * cost['band']:.0f} %",
                f"{100 * cost['hard']:.0f} %",
            )
            for arm, cost in means.items()
        ],
    )
    picture = args.out / "arms.png"
    draw(args, runs, picture)
    print(f"curves: {picture}")


if __name__ == "__main__":
    main()
