"""One reader of a run: what its folder says, read once and understood once.

`facequarry status`, the closing report and the page all ask here whether a run is alive, what its
refreshes did, how long it waited and what its staleness stays below.

    record = read_record(RunDir(Path("runs/demo-1")))
    record.state, record.refreshes, record.staleness_bound_steps
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from facequarry.datasets.disk.lock import is_held
from facequarry.datasets.disk.publish import read_manifest
from facequarry.datasets.runs.clock import RunClock
from facequarry.datasets.runs.events import last_attempt_by_step, read_events
from facequarry.datasets.runs.refreshes import Refresh, read_refreshes
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.datasets.runs.staleness import measured_bound

Event = dict[str, Any]
State = Literal[
    "starting", "training", "refreshing", "evaluating", "done", "stopped", "failed", "killed"
]

WRITERS = ("driver", "trainer", "miner", "queue")
"""Who writes an event log."""

UNREADABLE = (OSError, ValueError, LookupError, TypeError)
"""What reading a run raises where a file of it is damaged or gone."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run at one moment."""

    settings: Mapping[str, Any]
    """Its `config.json`, of this release or an older one."""
    is_alive: bool
    """Whether a process drives it, by the driver's lock: silence is no proof of anything."""
    events: Mapping[str, list[Event]]
    """By writer, in the order written."""
    clock: RunClock
    """Its own, the time since the last event included while it is alive."""
    refreshes: tuple[Refresh, ...]
    """In the order in which they began."""
    state: State
    """`refreshing`: training waits for the refresh in hand; `stopped`: by Ctrl-C or SIGTERM;
    `killed`: nobody drives it and nobody logged an end."""
    reason: str
    """Why it failed; empty otherwise."""

    @property
    def in_hand(self) -> Refresh | None:
        """The refresh at work, while the run is alive."""
        running = [refresh for refresh in self.refreshes if refresh.outcome == "running"]
        return running[-1] if running else None

    @property
    def num_published(self) -> int:
        """Refreshes that published a generation, those deleted or passed over since included."""
        return sum(refresh.outcome == "published" for refresh in self.refreshes)

    @property
    def failed_refreshes(self) -> int:
        """Refreshes that failed: that say so, or whose miner was killed and came back.

        One that the end of an attempt cut off did not: nobody would have consumed it.
        """
        return sum(refresh.outcome == "failed" for refresh in self.refreshes)

    @property
    def wait_share(self) -> float:
        """Share of the training time that was spent waiting for batches."""
        return wait_share(self.events["trainer"])

    @property
    def staleness_bound_steps(self) -> int | None:
        """What staleness_steps stays below with the refreshes so far; None where none is due."""
        return bound_of(self.settings, self.events)


def read_record(run: RunDir, *, now: float | None = None) -> RunRecord:
    """Read a run.

    Args:
        run: its directory.
        now: seconds since the epoch, up to which one that is alive has been at work.

    Raises:
        NotFound: there is no `config.json`.
        BadInput: it was written by a newer version or is damaged.
        LookupError, TypeError: a line of the events is; as `UNREADABLE` has them all.
    """
    settings = read_manifest(run.config)
    is_driven = is_held(run.driver_lock)  # looked at first: an end is logged before it is freed
    events = {writer: read_events(run.events, writer) for writer in WRITERS}
    clock = RunClock(event for writer in WRITERS for event in events[writer])
    driver = events["driver"]
    is_alive = is_driven and not (driver and driver[-1]["event"] == "end")
    if is_alive:
        clock.run_until(time.time() if now is None else now)
    total = settings.get("trainer", {}).get("steps")
    is_complete = total is not None and completed_steps(events["trainer"]) >= total
    refreshes = read_refreshes(
        events["miner"],
        events["queue"],
        clock,
        is_live=is_alive and not is_complete,  # the miner ends with training
        on_disk=run.generation_numbers(),
    )
    state, reason = _state(events, refreshes, is_alive=is_alive, is_complete=is_complete)
    return RunRecord(settings, is_alive, events, clock, refreshes, state, reason)


def what_is_wrong(error: Exception) -> str:
    """Return a sentence of one of `UNREADABLE`: a KeyError's own text is the key alone."""
    return f"a file lacks {error}" if isinstance(error, LookupError) else str(error)


def completed_steps(trainer: Sequence[Mapping[str, Any]]) -> int:
    """Return the steps completed; a start or a rewinding takes those beyond it back."""
    for event in reversed(trainer):
        if event["step"] is not None:
            return int(event["step"]) + int(event["event"] == "step")
    return 0


def wait_share(trainer: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of the training time that was spent waiting for batches.

    The first step of each start is left out: it waits for the first generation, or for the queue
    and the miner to come back.
    """
    starts = {(event["attempt"], event["step"]) for event in trainer if event["event"] == "start"}
    steps = [
        event
        for event in last_attempt_by_step(trainer, "step")
        if (event["attempt"], event["step"]) not in starts
    ]
    spent = sum(event.get("step_s") or 0.0 for event in steps)
    return sum(event.get("wait_s") or 0.0 for event in steps) / spent if spent else 0.0


def bound_of(
    settings: Mapping[str, Any], events: Mapping[str, Sequence[Mapping[str, Any]]]
) -> int | None:
    """Return a number of steps that staleness_steps stays below in a run.

    Args:
        settings: its `config.json`; what an older release did not write has its default.
        events: by writer.

    Returns:
        None where nothing is mined, or nothing was trained on yet.
    """
    trainer, refresh = settings.get("trainer", {}), settings.get("refresh", {})
    every = trainer.get("checkpoint_every")
    is_trained = any(event["event"] == "step" for event in events["trainer"])
    if trainer.get("selection", "mined") != "mined" or not every or not is_trained:
        return None
    waits = refresh.get("on_stale", "continue") == "wait"
    return measured_bound(
        events["trainer"],
        events["miner"],
        events["queue"],
        every=every,
        prefetch=trainer.get("prefetch", 2),
        is_carried=refresh.get("carry_over", 0.0) > 0,
        is_blocking=refresh.get("mode") == "blocking",
        limit=refresh.get("max_staleness_steps") if waits else None,
    )


def _state(
    events: Mapping[str, list[Event]],
    refreshes: Sequence[Refresh],
    *,
    is_alive: bool,
    is_complete: bool,
) -> tuple[State, str]:
    driver, trainer = events["driver"], events["trainer"]
    if driver and driver[-1]["event"] == "end":
        reason = str(driver[-1].get("reason") or "")
        if reason == "done":
            return "done", ""
        return ("stopped", "") if reason == "interrupted" else ("failed", reason)
    if not is_alive:
        return "killed", ""
    steps = [event for event in trainer if event["event"] == "step"]
    last_at = steps[-1]["time"] if steps else None
    running = [refresh for refresh in refreshes if refresh.outcome == "running"]
    if running and (last_at is None or last_at < running[-1].since):
        return "refreshing", ""
    if last_at is None:
        return "starting", ""
    return ("evaluating" if is_complete else "training"), ""
