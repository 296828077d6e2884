"""`facequarry evaluate`: verify people that a run never trained on, drawn or from a pairs file.

facequarry evaluate --run runs/lfw
facequarry evaluate --run runs/lfw --pairs pairs.txt --faces faces/lfw-all --held-out-only
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.jobs.config import parse

if TYPE_CHECKING:  # an evaluation imports torch, and --help must not
    from facequarry.datasets.runs.run_dir import RunDir
    from facequarry.jobs.config import RunConfig
    from facequarry.jobs.state.evaluated_faces import EvaluatedFaces
    from facequarry.trainer.evaluation.result import Evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """Verify people that a run was not trained on, with one of its checkpoints."""

    run: Path
    """The run's folder, such as runs/lfw."""
    step: int | None = None
    """Which checkpoint; None takes the newest."""
    pairs: Path | None = None
    """LFW-style pairs file: ten folds (header 10<TAB>300) or one set (header 1100), whose folds are
    then drawn so that no person is in two. None draws pairs of the run's held-out people."""
    faces: Path | None = None
    """Another folder of faces than the run's, made with the same crop and alignment. Its people
    count as held out, but for names that the run was trained on. None takes the run's."""
    held_out_only: bool = False
    """With --pairs: leave out, and count, the pairs of people that the run was trained on. Without
    it a file with such pairs is refused."""
    part: Literal["held_out", "tuning"] | None = None
    """Which part of the people. None takes what the run's configuration says, and with --pairs all
    people that the run was not trained on."""

    def __post_init__(self) -> None:
        if self.held_out_only and self.pairs is None:
            raise BadInput("--held-out-only goes with --pairs; drawn pairs are never trained on")


def run(flags: Sequence[str]) -> int:
    """Evaluate and print the figures and the paths of the pictures."""
    args = parse(Evaluate, flags, prog="facequarry evaluate")
    from facequarry.datasets.runs.run_dir import RunDir
    from facequarry.jobs.reports.evaluation_table import evaluation_table
    from facequarry.jobs.state.evaluated_faces import EvaluatedFaces
    from facequarry.jobs.state.origin import unknown_origin
    from facequarry.jobs.state.runs_on_disk import read_run

    where = RunDir(args.run.resolve())
    config = read_run(where)
    step = _step(where, args.step)
    console = Console()
    faces = EvaluatedFaces.open(config, where, args.faces)
    for difference in faces.differences:
        console.print(f"note: {difference}", soft_wrap=True, highlight=False)
    if args.pairs is None:
        result = _evaluate_drawn(args, config, where, step, faces)
    else:
        result = _evaluate_pairs(args, args.pairs, config, where, step, faces)
    unknown = faces.origin.unknown
    caveat = None if unknown is None else unknown_origin(unknown)
    console.print(evaluation_table(where.root.name, result, caveat=caveat))
    for path in sorted(where.evaluation(result.step, result.part).glob("*.png")):
        console.print(f"{path.stem:<10} {path}", soft_wrap=True, highlight=False)
    return 0


def _evaluate_drawn(
    args: Evaluate, config: RunConfig, where: RunDir, step: int, faces: EvaluatedFaces
) -> Evaluation:
    from facequarry.datasets.disk.progress import Progress
    from facequarry.trainer.evaluation.evaluate import evaluate

    part = args.part or ("held_out" if faces.name else config.evaluation.part)
    face_indices = faces.of_part(part)
    label, digest = (part, None) if faces.name is None else _label(args, where, step, faces)
    with Progress("embed", total=len(face_indices), unit="faces") as progress:
        return evaluate(
            where,
            faces.store,
            face_indices,
            step=step,
            part=label,
            max_pairs=config.evaluation.max_pairs,
            seed=config.seed,
            faces=faces.name,
            inputs_sha256=digest,
            on_progress=progress.update,
        )


def _evaluate_pairs(
    args: Evaluate,
    file: Path,
    config: RunConfig,
    where: RunDir,
    step: int,
    faces: EvaluatedFaces,
) -> Evaluation:
    from facequarry.datasets.disk.progress import Progress
    from facequarry.datasets.disk.publish import sha256_file
    from facequarry.trainer.evaluation.evaluate import evaluate_pairs
    from facequarry.trainer.evaluation.pairs_faces import find_faces, leave_out
    from facequarry.trainer.evaluation.pairs_file import read_pairs_file
    from facequarry.trainer.evaluation.result import PairsSource

    named = read_pairs_file(file)
    kept, left_out = leave_out(
        named, faces.part_of, held_out_only=args.held_out_only, part=args.part
    )
    pairs = find_faces(kept, faces.store, faces.rejected())
    source = PairsSource(
        file=file.name,
        sha256=sha256_file(file),
        num_pairs=len(named),
        left_out=left_out | {f"with a photo rejected as {r}": n for r, n in pairs.rejected.items()},
        has_folds=pairs.fold_of is not None,
        num_in_several_folds=kept.num_in_several_folds,
        num_tuning=faces.num_touching(pairs.left, pairs.right, "tuning"),
    )
    label, digest = _label(args, where, step, faces)
    with Progress("embed", total=len(pairs.face_indices), unit="faces") as progress:
        return evaluate_pairs(
            where,
            faces.store,
            pairs,
            source,
            step=step,
            part=label,
            seed=config.seed,
            faces=faces.name,
            inputs_sha256=digest,
            on_progress=progress.update,
        )


def _label(args: Evaluate, where: RunDir, step: int, faces: EvaluatedFaces) -> tuple[str, str]:
    """Return what the evaluation's folder is called after the step, and the digest of its inputs.

    Pairs files, or folders of faces, of one name are told apart: the first one to be evaluated has
    the plain name, others the beginning of their digest behind it.
    """
    from facequarry.datasets.disk.publish import read_manifest, sha256_file
    from facequarry.datasets.runs.run_dir import METRICS

    words, inputs = [], []
    if args.pairs:
        words.append(f"pairs-{args.pairs.stem}")
        inputs.append(sha256_file(args.pairs))
    if faces.name:
        words.append(f"faces-{faces.name}")
        inputs.append(str(faces.root.resolve()))
    words += [args.part] if args.part else []
    label, digest = "-".join(words), hashlib.sha256("\n".join(inputs).encode()).hexdigest()
    metrics = where.evaluation(step, label) / METRICS
    if not metrics.is_file() or read_manifest(metrics).get("inputs_sha256", digest) == digest:
        return label, digest
    return f"{label}-{digest[:8]}", digest


def _step(where: RunDir, step: int | None) -> int:
    steps = where.checkpoint_steps()
    if not steps:
        raise NotFound(f"{where.root} has no checkpoint yet; start it with facequarry run")
    if step is not None and step not in steps:
        raise NotFound(
            f"{where.root} has no checkpoint of step {step}; its steps are "
            f"{', '.join(map(str, steps))}"
        )
    return steps[-1] if step is None else step
