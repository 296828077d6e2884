"""Mine a published generation again, compare it byte for byte, and restore what was damaged.

facequarry mine --run runs/lfw --replay gen=3
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.disk.fence import FencedLock
from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.disk.publish import staged_file, staged_folder, sweep_staging
from facequarry.datasets.faces.snapshots import snapshot_digest
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.generation_files import TIMING, damaged_files, first_difference
from facequarry.datasets.generations.triplets import check_generation, read_generation_manifest
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.core.stopwatch import Stopwatch
from facequarry.miner.queue.journal import checkpoint_before, known_generations, switch_to
from facequarry.miner.refresh.executors import HERE, Executors
from facequarry.miner.refresh.generation import made_with, mine_into
from facequarry.miner.refresh.one_miner import mining
from facequarry.miner.refresh.recipe import Recipe, resolve_device
from facequarry.miner.refresh.recipe_versions import as_of
from facequarry.trainer.batch.run_faces import FacesAt
from facequarry.trainer.checkpoints.checkpoint import load_model, read_checkpoint_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """What came of a replay."""

    number: int
    rows: int
    parts: int
    suspects: int
    difference: str | None
    """The first thing that the replay did otherwise; None: it is the same to the byte."""
    damaged: tuple[str, ...]
    """Files of the published generation that were missing or had other bytes."""
    kept: Path | None
    """Where the replay lies, for inspection; None where it is the same."""
    made_otherwise: tuple[str, ...]
    """What was used that is not what the generation was made with, such as another PyTorch."""
    seconds: float

    @property
    def restored(self) -> tuple[str, ...]:
        """The damaged files, where the replay put them back."""
        return self.damaged if self.difference is None else ()


def replay_generation(
    run: RunDir,
    at: FacesAt,
    number: int,
    *,
    threads: int | None = None,
    executors: Executors = HERE,
    clock: Callable[[], float] = time.time,
) -> Replay:
    """Mine a generation again, as its manifest says, and compare.

    Damaged files are put back where the replay has the bytes that the manifest names. Beside that
    nothing that is published changes, and a run may go on meanwhile.

    Args:
        run: the run directory.
        at: where its faces are.
        number: the generation's.
        threads: CPU threads to mine with; never changes results.
        executors: who embeds and searches; never changes results either.
        clock: seconds since the epoch.

    Raises:
        NotFound: its checkpoint or its snapshot is gone.
        BadInput: there is no such generation, its manifest is gone, says too little or is not
            that of the rows that were granted, or weights or faces are not those it names.
        LockHeld: files have to be restored and a miner is at work, or another replay is.
    """
    folder = run.generation(number)
    manifest = _read_published(run, number)
    recipe = Recipe.from_manifest(manifest, folder, threads=threads)
    if recipe.config.device == "cuda" and resolve_device("auto") == "cpu":
        raise BadInput(
            f"generation {number} cannot be replayed here: it was embedded on a GPU and PyTorch "
            "sees none; replay it on a machine like the miner's"
        )
    watch = Stopwatch(clock)
    damaged = damaged_files(folder, manifest)
    replays = run.root / "replays"
    kept = replays / folder.name
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(mining(run)) if damaged else None
        stack.enter_context(WriterLock(run.root / ".replay.lock"))
        sweep_staging(replays)
        shutil.rmtree(kept, ignore_errors=True)
        model = _load(run, recipe)
        store = _open(at, recipe)
        with staged_folder(kept) as staging:
            again = mine_into(staging, recipe, model, store, watch=watch, executors=executors)
        difference = first_difference(*as_of(manifest, again))
        if difference is None:
            if lock is not None:
                _restore(folder, kept, damaged, lock)
            shutil.rmtree(kept)
            with contextlib.suppress(OSError):  # another generation's replay lies there
                replays.rmdir()
        watch.lap("compare")
    return Replay(
        number=number,
        rows=again["rows"],
        parts=len(again["parts"]),
        suspects=again["suspects"],
        difference=difference,
        damaged=tuple(damaged),
        kept=None if difference is None else kept,
        made_otherwise=tuple(_made_otherwise(manifest, made_with(recipe))),
        seconds=watch.total_s,
    )


def replayable(run: RunDir) -> list[int]:
    """Return the generations whose checkpoint is still there, with the weights they name."""
    weights: dict[int, str] = {}
    for step in run.checkpoint_steps():
        with contextlib.suppress(BadInput):  # damaged, or pruned just now
            weights[step] = read_checkpoint_manifest(run.checkpoint(step))["weight_sha256"]
    numbers = []
    for number in run.generation_numbers():
        with contextlib.suppress(BadInput):  # damaged, or deleted just now
            manifest = read_generation_manifest(run.generation(number))
            if weights.get(manifest["mined_at_step"]) == manifest.get("weight_sha256", ""):
                numbers.append(number)
    return numbers


def _read_published(run: RunDir, number: int) -> dict[str, Any]:
    """Read the manifest of the generation, which has to be what the queue granted rows of."""
    known = known_generations(run)
    if number not in known:
        there_are = ", ".join(map(str, known)) or "none"
        raise BadInput(f"there is no generation {number}; there are {there_are}")
    folder, switch = run.generation(number), switch_to(run, number)
    if switch is None:
        return check_generation(folder, None)
    back_to = checkpoint_before(run, switch)
    return check_generation(
        folder, switch.digest, mined_at_step=switch.mined_at_step, back_to=back_to
    )


def _load(run: RunDir, recipe: Recipe) -> nn.Module:
    """Load the weights that the recipe names.

    Raises:
        NotFound: the checkpoint was pruned.
        BadInput: it has other weights.
    """
    step, number = recipe.step, recipe.number
    able = f"generations that can be: {', '.join(map(str, replayable(run))) or 'none'}"
    if step not in run.checkpoint_steps():
        raise NotFound(
            f"generation {number} cannot be replayed: the checkpoint of step {step} that it was "
            f"mined from is gone; {able}"
        )
    model, checkpoint = load_model(run.checkpoint(step))
    if checkpoint["weight_sha256"] != recipe.weight_sha256:
        raise BadInput(
            f"generation {number} cannot be replayed: the checkpoint of step {step} has other "
            f"weights (sha256 {checkpoint['weight_sha256'][:12]}…) than it was mined from "
            f"({recipe.weight_sha256[:12]}…); {able}"
        )
    return model


def _open(at: FacesAt, recipe: Recipe) -> FaceStore:
    """Open the recipe's snapshot of the faces.

    Raises:
        NotFound: it is gone.
        BadInput: it holds other faces.
    """
    store = at.open(recipe.snapshot)
    found = snapshot_digest(store.manifest)
    if found != recipe.snapshot_sha256:
        raise BadInput(
            f"generation {recipe.number} cannot be replayed: snapshot {recipe.snapshot} of "
            f"{at.root} holds other faces (sha256 {found[:12]}…) than it was mined from "
            f"({recipe.snapshot_sha256[:12]}…); restore that folder"
        )
    return store


def _restore(folder: Path, replayed: Path, names: list[str], lock: FencedLock) -> None:
    """Put files of a replay in the place of damaged ones, each in one step."""
    sweep_staging(folder)
    for name in names:
        with staged_file(folder / name, replace=True, before_rename=lock.check) as staging:
            shutil.copyfile(replayed / name, staging)


def _made_otherwise(manifest: Mapping[str, Any], now: Mapping[str, object]) -> Iterator[str]:
    before = manifest[TIMING].get("made_with", {})
    for name, value in now.items():
        if before.get(name) != value:
            yield f"{name} {value} in place of {before.get(name)}"
