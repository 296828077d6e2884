"""A run directory to arrays: events, manifests and metrics as the page draws them.

Pure and light (no torch, ray, faiss, streamlit or plotly). A run that has only just started, lines
torn by a killed writer and a refresh that was cut off are ordinary here: what is not there yet is
empty, never an error.

    facts = read_run(Path("runs/demo-1"))
    facts.steps.loss_d2, facts.refreshes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facequarry.datasets.disk.publish import read_manifest
from facequarry.datasets.faces.snapshots import read_snapshot
from facequarry.datasets.generations.triplets import read_generation_manifest
from facequarry.datasets.runs.clock import RunClock
from facequarry.datasets.runs.events import last_attempt_by_step, read_events
from facequarry.datasets.runs.record import WRITERS, State, read_record
from facequarry.datasets.runs.refreshes import Refresh
from facequarry.datasets.runs.run_dir import METRICS, RunDir

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Events = Sequence[dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the page needs of `config.json`."""

    steps: int | None
    """Steps of the whole run."""
    checkpoint_every: int | None
    """N, steps between checkpoints."""
    margin: float
    """Width of the band, squared L2."""
    selection: str
    """`mined` or `random`."""
    faces: Path
    """The faces root; it may be gone."""


@dataclass(frozen=True, slots=True)
class Faces:
    """What came of the photos."""

    num_faces: int
    num_identities: int | None
    """None while ingestion goes on."""
    num_photos: int
    rejects: dict[str, int]
    """Rejected photos by reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCurves:
    """The trainer's steps, each (S,), ascending by step; a value that was not logged is NaN."""

    step: Ints
    at_s: Floats
    """When the step ended, on the run's own clock."""
    generation: Floats
    loss_d2: Floats
    staleness_steps: Floats
    in_band_share: Floats
    now_hard_share: Floats
    now_easy_share: Floats
    wait_s: Floats
    step_s: Floats
    faces_per_s: Floats

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """Everything about a run that the page shows, but for pictures."""

    name: str
    root: Path
    settings: Settings
    state: State
    is_alive: bool
    reason: str
    """Why the run ended; empty while it goes on."""
    elapsed_s: float
    """Time the run spent so far, pauses between attempts left out."""
    attempts: int
    steps: StepCurves
    refreshes: tuple[Refresh, ...]
    wait_share: float
    """Share of the training time spent waiting for batches, the first step of each start apart."""
    generations: tuple[int, ...]
    """Published ones that are still on disk."""
    evaluations: tuple[dict[str, Any], ...]
    """`metrics.json` of the first and the newest evaluated checkpoint; one or none before that."""
    faces: Faces | None
    """None before ingestion, or where the faces are gone."""
    staleness_bound_steps: int | None
    """With the refreshes so far; None where nothing is mined, or trained on yet."""


def list_runs(runs: Path) -> list[str]:
    """Return the names of the runs in a folder, the one started last first."""
    found = [(config.stat().st_mtime, config.parent.name) for config in runs.glob("*/config.json")]
    return [name for _, name in sorted(found, reverse=True)]


def signature(root: Path) -> tuple[object, ...]:
    """Return what changes whenever `read_run` would return something else, but for a death."""
    run = RunDir(root)
    files = [run.events / f"{stage}.jsonl" for stage in WRITERS]
    sizes = [path.stat().st_size if path.is_file() else 0 for path in files]
    return (*sizes, tuple(run.generation_numbers()), tuple(run.evaluation_steps()))


def read_run(root: Path, *, now: float | None = None) -> RunFacts:
    """Read a run.

    Args:
        root: its directory.
        now: seconds since the epoch, up to which a live run has been at work.

    Raises:
        NotFound: there is no `config.json`.
        BadInput: it is not one of ours, or was written by a newer version.
    """
    run = RunDir(root)
    record = read_record(run, now=now)
    settings = _settings(record.settings)
    ingest = read_events(settings.faces / "events", "ingest")
    generations = tuple(run.generation_numbers())
    evaluated = run.evaluation_steps()
    return RunFacts(
        name=root.name,
        root=root,
        settings=settings,
        state=record.state,
        is_alive=record.is_alive,
        reason=record.reason,
        elapsed_s=record.clock.elapsed_s,
        attempts=record.clock.attempts,
        steps=_steps(record.events["trainer"], record.clock),
        refreshes=record.refreshes,
        wait_share=record.wait_share,
        generations=generations,
        evaluations=tuple(
            read_manifest(run.evaluation(step) / METRICS)
            for step in dict.fromkeys(evaluated[:1] + evaluated[-1:])
        ),
        faces=_faces(settings.faces, _snapshot(run, generations), ingest),
        staleness_bound_steps=record.staleness_bound_steps,
    )


def _settings(tree: Mapping[str, Any]) -> Settings:
    trainer, miner = tree.get("trainer", {}), tree.get("miner", {})
    return Settings(
        steps=trainer.get("steps"),
        checkpoint_every=trainer.get("checkpoint_every"),
        margin=miner.get("margin", 0.2),
        selection=trainer.get("selection", "mined"),
        faces=Path(tree.get("faces", "faces/default")),
    )


def _steps(trainer: Events, clock: RunClock) -> StepCurves:
    events = last_attempt_by_step(trainer, "step")

    def column(name: str) -> Floats:
        values = (event.get(name) for event in events)
        return np.array([np.nan if value is None else value for value in values], np.float64)

    names = [name for name in StepCurves.__slots__ if name not in ("step", "at_s")]
    return StepCurves(
        step=np.array([event["step"] for event in events], np.int64),
        at_s=np.array([clock.at_s(event) for event in events], np.float64),
        **{name: column(name) for name in names},
    )


def _snapshot(run: RunDir, generations: Sequence[int]) -> int | None:
    """Return the snapshot that the run mines; None before its first generation."""
    try:
        return int(read_generation_manifest(run.generation(generations[-1]))["snapshot"])
    except (IndexError, FileNotFoundError, ValueError):
        return None


def _faces(root: Path, snapshot: int | None, ingest: Events) -> Faces | None:
    try:
        found = read_snapshot(root, snapshot)
        return Faces(found.num_faces, found.num_identities, found.num_photos, found.rejects)
    except FileNotFoundError:
        ingested = [event for event in ingest if "faces" in event]
        if not ingested:
            return None
        last = ingested[-1]
        return Faces(last["faces"], None, last["photos"], last.get("rejects") or {})
