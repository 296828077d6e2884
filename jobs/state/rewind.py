"""Take a run back to a checkpoint: what lies beyond it moves to `abandoned/`.

    rewind(RunDir(Path("runs/lfw")), 400)      # then: facequarry run --resume

A kill at any moment leaves a run that either goes on as before or refuses rows that are gone;
rewinding again finishes. So checkpoints go first, the newest first: training resumes from what is
there, and its old answers still stand. Generations follow, and the journal, which names them, last.

Back to step 0 even a damaged journal can be left behind: no row was granted before it.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facequarry.datasets.disk.errors import BadInput, Damaged
from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.disk.publish import flush, staged_file
from facequarry.datasets.generations.triplets import read_generation_manifest
from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.records import CorruptJournal, lines_of, read_records
from facequarry.miner.refresh.one_miner import mining
from facequarry.trainer.checkpoints.checkpoint import verify_checkpoint

_LOCK_TIMEOUT_S = 90.0  # the actors of a killed driver live on for seconds, or far more
_LOGS = ("trainer", "queue", "miner")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewound:
    """What a run gave up to go back to a step.

    Attributes:
        step: the checkpoint that training goes on from.
        checkpoint_steps: checkpoints that were moved, ascending.
        generations: generations that were moved, ascending.
        evaluations: names of the evaluations that were moved.
        granted_steps: steps that were granted beyond `step`.
        abandoned: the folder that holds all of it; None where there was nothing.
    """

    step: int
    checkpoint_steps: tuple[int, ...]
    generations: tuple[int, ...]
    evaluations: tuple[str, ...]
    granted_steps: int
    abandoned: Path | None


def rewind(run: RunDir, step: int) -> Rewound:
    """Take a run back to its checkpoint of `step`; call it while holding the driver's lock.

    Raises:
        BadInput: there is no such checkpoint, or it is damaged; names those there are.
        CorruptJournal: the queue's journal cannot be cut; never for step 0.
        LockHeld: a miner, a queue or a trainer is at work.
        LockLost: a miner took over meanwhile; rewinding again finishes.
    """
    with (
        mining(run, timeout_s=_LOCK_TIMEOUT_S) as lock,
        WriterLock(run.queue_lock, timeout_s=_LOCK_TIMEOUT_S),
        WriterLock(run.trainer_lock, timeout_s=_LOCK_TIMEOUT_S),
    ):
        _check_target(run, step)
        records, is_damaged = _read_to_cut(run.queue_journal, step)
        kept = kept_records(records, step)
        checkpoints = [s for s in run.checkpoint_steps() if s > step]
        generations = _generations_beyond(run, records, step)
        evaluations = [path.name for path in _evaluations_beyond(run, step)]
        abandoned = None
        if checkpoints or generations or evaluations or kept != records or is_damaged:
            abandoned = run.root / "abandoned" / f"beyond-step={step:09d}-{uuid.uuid4().hex[:8]}"
            if records or is_damaged:
                with staged_file(abandoned / run.queue_journal.name) as staging:
                    shutil.copyfile(run.queue_journal, staging)
            for folder in (
                *(run.checkpoint(s) for s in reversed(checkpoints)),
                *(run.generation(number) for number in reversed(generations)),
                *_evaluations_beyond(run, step),
            ):
                lock.check()
                _move(folder, abandoned / folder.parent.name / folder.name)
            if kept != records or is_damaged:
                with staged_file(
                    run.queue_journal, replace=True, before_rename=lock.check
                ) as staging:
                    staging.write_text(lines_of(kept), encoding="utf-8")
        for stage in _LOGS:
            _log(run, stage, step, abandoned)
    return Rewound(
        step=step,
        checkpoint_steps=tuple(checkpoints),
        generations=tuple(generations),
        evaluations=tuple(evaluations),
        granted_steps=max(0, _granted_through(records) - max(step - 1, _granted_through(kept))),
        abandoned=abandoned,
    )


def _read_to_cut(path: Path, step: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the journal's records, and whether they are damaged and to be left behind whole."""
    try:
        return read_records(path), False
    except CorruptJournal:
        if step > 0:
            raise
        return [], True


def kept_records(records: Sequence[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Return the journal as it was before an answer for `step` was granted.

    Generations that are served from `step` on are left out, so that the queue takes the newest of
    those that stay; those that were deleted stay named.

    Args:
        records: the whole journal.
        step: the first step that will be asked for anew.
    """
    kept: list[dict[str, Any]] = []
    is_before = True
    for record in records:
        match record["record"]:
            case "granted" if record["through_step"] >= step:
                if is_before and step > 0 and _granted_through(kept) < step - 1:
                    kept.append({"record": "granted", "through_step": step - 1})
                is_before = False
            case "switch" if record["first_step"] >= step:
                pass
            case "deleted":
                kept.append(record)
            case _:
                if is_before:
                    kept.append(record)
    return kept


def _granted_through(records: Sequence[dict[str, Any]]) -> int:
    return max((r["through_step"] for r in records if r["record"] == "granted"), default=-1)


def _check_target(run: RunDir, step: int) -> None:
    steps = run.checkpoint_steps()
    there_are = ", ".join(map(str, steps)) or "none"
    if step not in steps:
        raise BadInput(f"{run.root} has no checkpoint of step {step}; there are {there_are}")
    try:
        verify_checkpoint(run.checkpoint(step))
    except BadInput as error:
        raise BadInput(
            f"the checkpoint of step {step} cannot be gone back to: {error}; there are {there_are}"
        ) from error


def _generations_beyond(run: RunDir, records: Sequence[dict[str, Any]], step: int) -> list[int]:
    """Return the published generations that were mined at a later step, ascending."""
    mined_at = {r["generation"]: r["mined_at_step"] for r in records if r["record"] == "switch"}
    beyond = []
    for number in run.generation_numbers():
        if number not in mined_at:
            try:
                manifest = read_generation_manifest(run.generation(number))
            except Damaged:  # and it was never served: nobody will miss it
                manifest = {"mined_at_step": step + 1}
            mined_at[number] = manifest["mined_at_step"]
        if mined_at[number] > step:
            beyond.append(number)
    return beyond


def _evaluations_beyond(run: RunDir, step: int) -> list[Path]:
    """Return the folders of the evaluations of later checkpoints, of any part."""
    folders = sorted(run.evaluations.glob("step=*")) if run.evaluations.is_dir() else []
    digits = [folder.name.removeprefix("step=").split("-")[0] for folder in folders]
    return [f for f, d in zip(folders, digits, strict=True) if d.isdigit() and int(d) > step]


def _move(folder: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    flush(folder.parent)


def _log(run: RunDir, stage: str, step: int, abandoned: Path | None) -> None:
    """Let readers of a stage's events drop what lies beyond the step."""
    attempt = max((e["attempt"] for e in read_events(run.events, stage)), default=1)
    where = None if abandoned is None else str(abandoned.relative_to(run.root))
    EventLog(run.events, stage, attempt=attempt).write("rewound", step=step, abandoned=where)
