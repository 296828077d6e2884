"""A run directory to arrays: events, manifests and metrics as the page draws them.

Pure and light (no torch, ray, faiss, streamlit or plotly). A run that has only just started, lines
torn by a killed writer and a refresh that was cut off are ordinary here: what is not there yet is
empty, never an error.

    facts = read_run(Path("runs/demo-1"))
    facts.steps.loss_d2, facts.refreshes
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from facequarry.dashboards.facts.clock import RunClock
from facequarry.dashboards.facts.refreshes import Refresh, read_refreshes
from facequarry.datasets.disk.publish import read_manifest
from facequarry.datasets.faces.snapshots import read_snapshot
from facequarry.datasets.generations.triplets import read_generation_manifest
from facequarry.datasets.runs.events import last_attempt_by_step, read_events
from facequarry.datasets.runs.run_dir import METRICS, RunDir

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Events = Sequence[dict[str, Any]]
State = Literal["running", "quiet", "done", "interrupted", "failed"]

STAGES = ("driver", "trainer", "miner", "queue")
_QUIET_AFTER_S = 60.0


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
    reason: str
    """Why the run ended; empty while it goes on."""
    elapsed_s: float
    """Time the run spent so far, pauses between attempts left out."""
    attempts: int
    steps: StepCurves
    refreshes: tuple[Refresh, ...]
    generations: tuple[int, ...]
    """Published ones that are still on disk."""
    evaluations: tuple[dict[str, Any], ...]
    """`metrics.json` of the first and the newest evaluated checkpoint; one or none before that."""
    faces: Faces | None
    """None before ingestion, or where the faces are gone."""
    staleness_bound_steps: float | None


def list_runs(runs: Path) -> list[str]:
    """Return the names of the runs in a folder, the one started last first."""
    found = [(config.stat().st_mtime, config.parent.name) for config in runs.glob("*/config.json")]
    return [name for _, name in sorted(found, reverse=True)]


def signature(root: Path) -> tuple[object, ...]:
    """Return what changes whenever `read_run` would return something else (but for `quiet`)."""
    run = RunDir(root)
    files = [run.events / f"{stage}.jsonl" for stage in STAGES]
    sizes = [path.stat().st_size if path.is_file() else 0 for path in files]
    return (*sizes, tuple(run.generation_numbers()), tuple(run.evaluation_steps()))


def read_run(root: Path, *, now: float | None = None) -> RunFacts:
    """Read a run.

    Args:
        root: its directory.
        now: seconds since the epoch, to tell a running run from one that fell silent.

    Raises:
        NotFound: there is no `config.json`.
        BadInput: it is not one of ours, or was written by a newer version.
    """
    run = RunDir(root)
    settings = _settings(read_manifest(run.config))
    events = {stage: read_events(run.events, stage) for stage in STAGES}
    clock = RunClock(event for stage in STAGES for event in events[stage])
    now = time.time() if now is None else now
    ingest = read_events(settings.faces / "events", "ingest")
    last_time = max([clock.last_time, *(event["time"] for event in ingest[-1:])])
    state, reason = _state(events["driver"], now - last_time if last_time else 0.0)
    if state == "running":
        clock.run_until(now)
    generations = tuple(run.generation_numbers())
    evaluated = run.evaluation_steps()
    bounds = [event.get("staleness_bound_steps") for event in events["driver"]]
    return RunFacts(
        name=root.name,
        root=root,
        settings=settings,
        state=state,
        reason=reason,
        elapsed_s=clock.elapsed_s,
        attempts=clock.attempts,
        steps=_steps(events["trainer"], clock),
        refreshes=read_refreshes(
            events["miner"], events["queue"], clock, is_live=state == "running"
        ),
        generations=generations,
        evaluations=tuple(
            read_manifest(run.evaluation(step) / METRICS)
            for step in dict.fromkeys(evaluated[:1] + evaluated[-1:])
        ),
        faces=_faces(settings.faces, _snapshot(run, generations), ingest),
        staleness_bound_steps=next((bound for bound in reversed(bounds) if bound), None),
    )


def _settings(tree: dict[str, Any]) -> Settings:
    trainer, miner = tree.get("trainer", {}), tree.get("miner", {})
    return Settings(
        steps=trainer.get("steps"),
        checkpoint_every=trainer.get("checkpoint_every"),
        margin=miner.get("margin", 0.2),
        selection=trainer.get("selection", "mined"),
        faces=Path(tree.get("faces", "faces/default")),
    )


def _state(driver: Events, silent_s: float) -> tuple[State, str]:
    last = driver[-1] if driver else None
    if last and last["event"] == "end":
        reason = str(last.get("reason") or "")
        if reason == "interrupted":
            return ("interrupted", "")
        if reason == "done":
            return ("done", "")
        return ("failed", reason)
    return ("quiet", "") if silent_s > _QUIET_AFTER_S else ("running", "")


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
