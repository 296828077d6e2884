"""Make a run directory or go on with one, and read what it was started with."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from facequarry.datasets.disk.errors import AlreadyExists, BadInput, NotFound
from facequarry.datasets.disk.publish import (
    SCHEMA_VERSION,
    read_manifest,
    sweep_staging,
    write_json,
)
from facequarry.datasets.faces.snapshots import (
    Snapshot,
    newest_snapshot_number,
    read_snapshot,
    shards_digest,
)
from facequarry.datasets.generations.triplets import mined_snapshot
from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import RunConfig, load_run_config, to_tree
from facequarry.jobs.state.setting_changes import check_same
from facequarry.miner.queue.journal import CorruptJournal, check_journal

_SHOWN_RUNS = 8


def absolute(config: RunConfig) -> RunConfig:
    """Return the configuration with absolute paths: Ray's workers have other working folders."""
    return replace(
        config,
        runs=config.runs.resolve(),
        faces=config.faces.resolve(),
        photos=None if config.photos is None else config.photos.resolve(),
        ingest=config.ingest.absolute(),
        trainer=config.trainer.absolute(),
        cluster=replace(
            config.cluster,
            face_cache=config.cluster.face_cache and config.cluster.face_cache.resolve(),
        ),
    )


def check_run(config: RunConfig, *, resume: bool, resume_from: int | None = None) -> RunDir:
    """Check that the run directory may be made, or gone on with; nothing is written.

    Args:
        config: the run, with absolute paths.
        resume: go on with a run that exists.
        resume_from: at the checkpoint of this step; None takes the newest.

    Raises:
        AlreadyExists: the run exists and `resume` is false; names the three ways out.
        NotFound: there is nothing to resume, or the faces that were mined are gone.
        BadInput: the run was started with settings that cannot change.
        CorruptJournal, QueueMismatch: its queue could not go on from its journal.
    """
    run = RunDir(config.runs / config.name)
    if not run.config.exists():
        if resume:
            raise NotFound(f"no run at {run.root} to resume; leave out --resume")
        # Photos and faces may lie in the run's folder, as the demo has them; a run's parts may not.
        if run.queue_journal.exists() or run.checkpoints.exists():
            raise AlreadyExists(
                f"{run.root} holds parts of a run and no config.json; give another --name"
            )
        return run
    if not resume:
        raise AlreadyExists(
            f"run {run.root} exists; go on with it by --resume, give another --name, "
            "or remove the folder"
        )
    check_same(read_manifest(run.config), to_tree(config), run)
    steps = run.checkpoint_steps()
    if resume_from is not None and resume_from not in steps:
        raise BadInput(
            f"{run.root} has no checkpoint of step {resume_from} to go on from; there are "
            f"{', '.join(map(str, steps)) or 'none'}"
        )
    newest = max(steps, default=0) if resume_from is None else resume_from
    if newest and not run.queue_journal.is_file():
        raise NotFound(
            f"{run.queue_journal} is gone, so which rows the steps up to {newest} got is lost; "
            "restore the file, or start a new run with --name"
        )
    try:
        check_journal(
            run.queue_journal,
            batch=config.trainer.batch,
            carry_over=config.refresh.carry_over,
            seed=config.seed,
            newest=newest,
        )
    except CorruptJournal:
        if resume_from != 0:  # from the start on every row is granted anew
            raise
    if config.trainer.steps < newest:
        raise BadInput(
            f"{run.root} has a checkpoint of step {newest}, trainer.steps is now "
            f"{config.trainer.steps}; give {newest} or more, or start a new run with --name"
        )
    mined = mined_snapshot(run)
    if mined is not None and mined > newest_snapshot_number(config.faces):
        raise NotFound(
            f"{run.root} mined snapshot {mined}, {config.faces} ends at snapshot "
            f"{newest_snapshot_number(config.faces)}; restore it, or name its folder with --faces"
        )
    return run


def open_run(config: RunConfig, faces: Snapshot, *, resume: bool) -> tuple[RunDir, int]:
    """Make the run directory, or open it again; return it and the number of this attempt.

    Raises:
        as `check_run` does.
    """
    run = check_run(config, resume=resume)
    if resume:
        attempt = last_attempt(run) + 1
    else:
        attempt = 1
        write_json(run.faces, _identify(faces))
    write_json(run.config, {"schema_version": SCHEMA_VERSION, **to_tree(config)}, replace=resume)
    for folder in (run.root, run.checkpoints, run.evaluations):
        sweep_staging(folder)  # the driver's lock is ours: what is staged here is dead
    return run, attempt


def pinned_snapshot(config: RunConfig, run: RunDir) -> int:
    """Return the snapshot that a run started with; the newest for a new run.

    Random triplets are drawn and checkpoints are evaluated on it for good; mining goes on to newer
    snapshots, in which each of its faces keeps its face_index.

    Raises:
        NotFound: there are no faces, or not this snapshot of them.
        BadInput: the faces are not those that the run was started with.
    """
    if not run.faces.is_file():
        return read_snapshot(config.faces).number
    pinned = _read_pinned(run)
    found = _identify(read_snapshot(config.faces, pinned["snapshot"]))
    if found != pinned:
        raise BadInput(
            f"{config.faces} does not hold the faces that {run.root} was started with; name their "
            "folder with --faces, or start a new run with --name"
        )
    return int(pinned["snapshot"])


def snapshots_of(run: RunDir) -> str:
    """Return the run's first snapshot, and the one that it mines where that is another."""
    first, mined = int(_read_pinned(run)["snapshot"]), mined_snapshot(run)
    return str(first) if mined in (None, first) else f"{first}, mining snapshot {mined}"


def _read_pinned(run: RunDir) -> dict[str, Any]:
    pinned = read_manifest(run.faces)
    if "snapshot" not in pinned:
        raise BadInput(f"{run.faces} does not name a snapshot; restore it, or start a new run")
    return pinned


def _identify(faces: Snapshot) -> dict[str, Any]:
    """Return what tells one snapshot from any other: its number and its shards' bytes."""
    return {
        "schema_version": SCHEMA_VERSION,
        "snapshot": faces.number,
        "num_faces": faces.num_faces,
        "shards_sha256": shards_digest(faces),
        "identities_sha256": faces.identities_sha256,
    }


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a run.

    Attributes:
        number: how often the run was started, counting from 1.
        log: the driver's events.
        ending: values that go into the attempt's last event.
    """

    number: int
    log: EventLog
    ending: dict[str, Any] = field(default_factory=lambda: {"reason": "done"})


@contextlib.contextmanager
def attempt_of(config: RunConfig, faces: Snapshot, *, resume: bool) -> Iterator[Attempt]:
    """Open the run for the block and log how the attempt ends."""
    run, number = open_run(config, faces, resume=resume)
    attempt = Attempt(number, EventLog(run.events, "driver", attempt=number))
    attempt.log.write("start", command=" ".join(sys.argv))
    began = time.monotonic()
    try:
        yield attempt
    except KeyboardInterrupt:
        attempt.ending["reason"] = "interrupted"
        raise
    except BaseException as error:
        attempt.ending["reason"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        attempt.log.write("end", seconds=time.monotonic() - began, **attempt.ending)


def last_attempt(run: RunDir) -> int:
    """Return how often a run was started; 1 before anything was logged."""
    return max((event["attempt"] for event in read_events(run.events, "driver")), default=1)


def read_run(run: RunDir) -> RunConfig:
    """Read the configuration that a run was started with.

    Raises:
        NotFound: there is no run.
        NewerSchema: a newer FaceQuarry wrote it.
    """
    if not run.config.is_file():
        raise NotFound(f"no run at {run.root}: it has no config.json{_others_beside(run)}")
    read_manifest(run.config)
    return load_run_config(run.config, [])


def _others_beside(run: RunDir) -> str:
    """Name the runs that lie where the missing one, or `runs/`, would."""
    for folder in (run.root.parent, run.root.parent / "runs"):
        names = sorted(path.parent.name for path in folder.glob("*/config.json"))
        if names:
            more = ", ..." if len(names) > _SHOWN_RUNS else ""
            return f"; under {folder} there are {', '.join(names[-_SHOWN_RUNS:])}{more}"
    return ""
