"""What a run is doing, from its folder alone: the facts that `facequarry status` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facequarry.datasets.disk.publish import read_manifest
from facequarry.datasets.runs.record import WRITERS, State, completed_steps, read_record
from facequarry.datasets.runs.refreshes import Refresh
from facequarry.datasets.runs.run_dir import METRICS, RunDir
from facequarry.jobs.state.runs_on_disk import read_run, snapshots_of

Event = Mapping[str, Any]

_RATE_STEPS = 60


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
    refresh: Refresh | None
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
    record = read_record(run)
    config = read_run(run)
    trainer = record.events["trainer"]
    steps = [event for event in trainer if event["event"] == "step"]
    last = steps[-1] if steps else None
    merged = sorted(
        ({**event, "stage": who} for who in WRITERS for event in record.events[who]),
        key=lambda event: float(event["time"]),
    )
    evaluated = run.evaluation_steps()
    return RunState(
        state=record.state,
        reason=record.reason,
        step=completed_steps(trainer),
        steps=config.trainer.steps,
        steps_per_s=_rate(steps) if record.is_alive else None,
        loss_d2=last["loss_d2"] if last else None,
        in_band_share=last["in_band_share"] if last else None,
        staleness_steps=last.get("staleness_steps") if last else None,
        staleness_bound_steps=record.staleness_bound_steps,
        serving=last["generation"] if last else None,
        newest=max(run.generation_numbers(), default=None),
        refresh=record.in_hand,
        refreshes=record.num_published,
        failed_refreshes=record.failed_refreshes,
        restarts=sum(event["event"] == "restart" for event in record.events["driver"]),
        checkpoint=max(run.checkpoint_steps(), default=None),
        auc=_auc(run, evaluated[-1]) if evaluated else None,
        evaluated_step=evaluated[-1] if evaluated else None,
        snapshots=snapshots_of(run),
        moved_at=merged[-1]["time"] if merged else None,
        recent=tuple([e for e in merged if e["event"] != "step"][-num_recent:]),
    )


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
