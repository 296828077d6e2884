"""What a run is doing, from its folder alone: the facts that `facequarry status` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from facequarry.datasets.disk.lock import is_held
from facequarry.datasets.disk.publish import read_manifest
from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import METRICS, RunDir
from facequarry.datasets.runs.staleness import num_failed_refreshes
from facequarry.jobs.state.bound import bound_of
from facequarry.jobs.state.runs_on_disk import last_attempt, read_run, snapshots_of
from facequarry.miner.queue.journal import known_generations

Event = Mapping[str, Any]
State = Literal[
    "starting", "training", "refreshing", "evaluating", "done", "stopped", "failed", "killed"
]

STAGES = ("driver", "trainer", "miner", "queue")
_RATE_STEPS = 60


@dataclass(frozen=True, slots=True)
class LastRefresh:
    """A refresh in hand."""

    generation: int
    checkpoint_step: int
    since: float
    """Seconds since the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """What a run is doing; a value that is not known yet is None.

    Attributes:
        state: `refreshing`: training waits for the refresh in hand; `stopped`: by Ctrl-C or
            SIGTERM; `killed`: nobody drives it and nobody logged an end.
        reason: why it failed; empty otherwise.
        step: steps completed; steps: of the whole run.
        steps_per_s: over the last steps, while the run goes on.
        staleness_bound_steps: what staleness stays below with the refreshes so far.
        serving: generation of the last step; newest: the last published one.
        refresh: the one in hand, while the run goes on.
        restarts: lost groups of workers that were brought back.
        auc: of the newest held-out evaluation, made at `evaluated_step`.
        moved_at: time of the last event, seconds since the epoch.
        recent: the last events but for steps, in order, each with its `stage`.
    """

    state: State
    reason: str
    step: int
    steps: int
    steps_per_s: float | None
    loss_d2: float | None
    in_band_share: float | None
    staleness_steps: int | None
    staleness_bound_steps: int | None
    serving: int | None
    newest: int | None
    refresh: LastRefresh | None
    refreshes: int
    failed_refreshes: int
    restarts: int
    checkpoint: int | None
    auc: float | None
    evaluated_step: int | None
    snapshots: str
    moved_at: float | None
    recent: tuple[Event, ...]

    @property
    def eta_s(self) -> float | None:
        """Seconds to the last step at the present rate."""
        return None if not self.steps_per_s else (self.steps - self.step) / self.steps_per_s


def read_state(run: RunDir, *, num_recent: int = 12) -> RunState:
    """Read what a run is doing.

    Raises:
        OSError, BadInput, LookupError, TypeError: a file of the run is damaged or gone.
    """
    config = read_run(run)
    is_driven = is_held(run.driver_lock)  # looked at first: an end is logged before it is freed
    events = {stage: read_events(run.events, stage) for stage in STAGES}
    trainer, miner, queue = events["trainer"], events["miner"], events["queue"]
    steps = [event for event in trainer if event["event"] == "step"]
    last = steps[-1] if steps else None
    refresh = _refresh_in_hand(miner, attempt=last_attempt(run)) if is_driven else None
    step = _completed(trainer)
    is_complete = step >= config.trainer.steps
    state, reason = _state(
        events["driver"], last, refresh, is_driven=is_driven, is_complete=is_complete
    )
    merged = sorted(
        ({**event, "stage": stage} for stage in STAGES for event in events[stage]),
        key=lambda event: float(event["time"]),
    )
    evaluated = run.evaluation_steps()
    mined = config.trainer.selection == "mined"
    bound = bound_of(config, trainer=trainer, miner=miner, queue=queue) if last and mined else None
    return RunState(
        state=state,
        reason=reason,
        step=step,
        steps=config.trainer.steps,
        steps_per_s=_rate(steps) if is_driven else None,
        loss_d2=last["loss_d2"] if last else None,
        in_band_share=last["in_band_share"] if last else None,
        staleness_steps=last.get("staleness_steps") if last else None,
        staleness_bound_steps=bound,
        serving=last["generation"] if last else None,
        newest=max(run.generation_numbers(), default=None),
        refresh=refresh,
        refreshes=len(known_generations(run)),
        failed_refreshes=num_failed_refreshes(miner),
        restarts=sum(event["event"] == "restart" for event in events["driver"]),
        checkpoint=max(run.checkpoint_steps(), default=None),
        auc=_auc(run, evaluated[-1]) if evaluated else None,
        evaluated_step=evaluated[-1] if evaluated else None,
        snapshots=snapshots_of(run),
        moved_at=merged[-1]["time"] if merged else None,
        recent=tuple([e for e in merged if e["event"] != "step"][-num_recent:]),
    )


def _state(
    driver: Sequence[Event],
    last: Event | None,
    refresh: LastRefresh | None,
    *,
    is_driven: bool,
    is_complete: bool,
) -> tuple[State, str]:
    if driver and driver[-1]["event"] == "end":
        reason = str(driver[-1]["reason"])
        if reason == "done":
            return "done", ""
        return ("stopped", "") if reason == "interrupted" else ("failed", reason)
    if not is_driven:
        return "killed", ""
    if refresh and (last is None or last["time"] < refresh.since):
        return "refreshing", ""
    if last is None:
        return "starting", ""
    return ("evaluating" if is_complete else "training"), ""


def _completed(trainer: Sequence[Event]) -> int:
    """Return the steps completed; a start or a rewinding takes those beyond it back."""
    for event in reversed(trainer):
        if event["step"] is not None:
            return int(event["step"]) + int(event["event"] == "step")
    return 0


def _refresh_in_hand(miner: Sequence[Event], *, attempt: int) -> LastRefresh | None:
    """Return the refresh that began last, if neither an event nor its attempt's end ended it."""
    for event in reversed(miner):
        if event["attempt"] < attempt:
            return None
        if event["event"] in ("published", "failed"):
            return None
        if event["event"] == "begin":
            return LastRefresh(event["generation"], event["checkpoint_step"], event["time"])
    return None


def _rate(steps: Sequence[Event]) -> float | None:
    """Return steps per second over the last steps that were taken in a row."""
    row: list[Event] = []
    for event in reversed(steps[-_RATE_STEPS:]):
        after = row[-1] if row else None
        # A pause between two attempts is no slow step, and a restart takes steps anew.
        if after and (event["attempt"], event["step"] + 1) != (after["attempt"], after["step"]):
            break
        row.append(event)
    took_s = row[0]["time"] - row[-1]["time"] if row else 0.0
    return (len(row) - 1) / took_s if took_s > 0 else None


def _auc(run: RunDir, step: int) -> float:
    return float(read_manifest(run.evaluation(step) / METRICS)["verification"]["auc"])
