"""The refreshes of a run, from the miner's and the queue's events."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from facequarry.datasets.runs.clock import RunClock
from facequarry.datasets.runs.events import last_attempt_by_step, standing
from facequarry.datasets.runs.vocabulary import OUTCOMES, REFRESH_STAGES, names

Events = Sequence[Mapping[str, Any]]
Outcome = Literal["published", "failed", "running", "cut off"]

KILLED = "its miner was killed"
STAGES = names(REFRESH_STAGES)
COUNTS = ("rows", "pairs", *names(OUTCOMES), "over_max_uses")


@dataclass(frozen=True, kw_only=True, slots=True)
class Refresh:
    """One refresh, from its begin to what became of it; times on the run's own clock."""

    generation: int
    mined_at_step: int
    outcome: Outcome
    since: float
    """When it began, seconds since the epoch."""
    began_s: float
    ended_s: float
    seconds: dict[str, float]
    """By stage, those of `STAGES` that were logged; empty where nothing was published."""
    counts: dict[str, int]
    """`rows` and the counts of pairs; empty where nothing was published."""
    forecast_s: float | None
    """What it should have taken; None without a budget, and before there was one to go by."""
    reason: str
    """Why it failed or gave no rows, or why the queue passed its generation over."""
    first_step: int | None
    """First step served from its generation; None where none was, or not yet."""

    @property
    def refresh_s(self) -> float:
        """Seconds from its begin to its end."""
        return self.ended_s - self.began_s


def published(miner: Events) -> list[dict[str, Any]]:
    """Return the events of the refreshes that ended well and were not taken back, in order.

    Args:
        miner: events in the order written.
    """
    return [event for event in standing(miner) if event["event"] == "published"]


def read_refreshes(
    miner: Events,
    queue: Events,
    clock: RunClock,
    *,
    is_live: bool,
    on_disk: Collection[int] = (),
) -> tuple[Refresh, ...]:
    """Pair each begin with its end.

    A failure without a begin, such as a lock that another miner holds, is a refresh where it says
    which generation did not come about; where nothing was due it kept nothing from happening.
    Those of a run that was taken back since, beyond that step, are left out. One without an end
    failed where its miner came back in the same attempt, and was cut off where the attempt ended.

    Args:
        miner: events in the order written.
        queue: events in the order written.
        clock: of the run.
        is_live: training goes on, so that a refresh without an end is still at work.
        on_disk: numbers of the published generations.
    """
    switches = last_attempt_by_step([dict(e) for e in queue], "switch")
    first_steps: dict[int | None, int] = {e["generation"]: e["first_step"] for e in switches}
    passed_over = {e["generation"]: e["reason"] for e in queue if e["event"] == "skipped"}

    def made(begin: Mapping[str, Any], end: Mapping[str, Any] | None, outcome: Outcome) -> Refresh:
        closing = end or {}
        generation = begin["generation"]
        began_s = clock.at_s(begin)
        ended_s = clock.elapsed_s if outcome == "running" else clock.at_s(end or begin)
        return Refresh(
            generation=generation,
            mined_at_step=begin["checkpoint_step"],
            outcome=outcome,
            since=float(begin["time"]),
            began_s=began_s,
            ended_s=max(ended_s, began_s),
            seconds={s: closing[f"{s}_s"] for s in STAGES if closing.get(f"{s}_s") is not None},
            counts={name: closing[name] for name in COUNTS if closing.get(name) is not None},
            forecast_s=closing.get("forecast_s"),
            reason=str(closing.get("reason") or passed_over.get(generation, "")),
            first_step=first_steps.get(generation) if outcome == "published" else None,
        )

    def unfinished(begin: Mapping[str, Any], after: Mapping[str, Any] | None = None) -> Refresh:
        """Say what became of one without an end, from what the miner began `after` it."""
        # Published and then killed before it was logged: the folder or the queue knows of it all
        # the same, and the next one takes the next number, while another try keeps this one.
        is_tried_again = after is not None and after["generation"] == begin["generation"]
        is_known = begin["generation"] in on_disk or begin["generation"] in first_steps
        is_passed = after is not None and after["generation"] > begin["generation"]
        if is_passed or (is_known and not is_tried_again):
            return made(begin, None, "published")
        if after is None and is_live and begin["attempt"] == clock.attempts:
            return made(begin, None, "running")
        if after is not None and after["attempt"] == begin["attempt"]:
            return made(begin, {"reason": KILLED, **begin}, "failed")
        return made(begin, None, "cut off")

    refreshes: list[Refresh] = []
    begun: Mapping[str, Any] | None = None
    for event in standing(miner):
        if event["event"] == "begin":
            if begun is not None:
                refreshes.append(unfinished(begun, event))
            begun = event
        elif event["event"] in ("published", "failed"):
            if begun is None and not {"generation", "checkpoint_step"} <= event.keys():
                continue
            refreshes.append(made(begun or event, event, event["event"]))
            begun = None
    if begun is not None:
        refreshes.append(unfinished(begun))
    return tuple(refreshes)
