"""What became of each generation when it was trained on, from the step events alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class KindShares:
    """Shares of consumed triplets, from the forward pass that trained on them.

    Attributes:
        active: had a loss above zero.
        in_band: were still semi-hard.
        now_hard, now_easy: had become that; with `in_band` they add up to 1.
    """

    active: float
    in_band: float
    now_hard: float
    now_easy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Consumed:
    """A generation over the steps that it served; carried rows count with the one served."""

    generation: int | None
    """Its number; None for steps of random triplets, and of those found in the batch."""
    first_step: int
    last_step: int
    num_steps: int
    num_triplets: int
    num_empty_steps: int
    """Steps without any triplet, which only triplets found in the batch have."""
    repeats: int
    """Rows that the generation had served before."""
    mean_loss_d2: float
    """Over the steps that had a triplet, squared L2; 0 where none had."""
    faces_per_triplet: float | None
    """Over all its triplets; None where there were none."""
    at_takeover: KindShares
    """Of its first step."""
    overall: KindShares
    """Over all its triplets."""
    min_staleness_steps: int | None
    """None where the rows were not mined."""
    max_staleness_steps: int | None
    wait_share: float
    """Share of its time spent waiting for batches."""


def by_generation(step_events: Sequence[Mapping[str, Any]]) -> list[Consumed]:
    """Sum up the steps of each generation, in the order they were served.

    Args:
        step_events: the trainer's `step` events, one a step and ordered by step, as
            `datasets.events.last_attempt_by_step` gives them.
    """
    return [
        _sum_up(generation, list(events))
        for generation, events in groupby(step_events, key=lambda event: event["generation"])
    ]


def _sum_up(generation: int | None, events: list[Mapping[str, Any]]) -> Consumed:
    triplets = [event["num_triplets"] for event in events]
    ages = [event["staleness_steps"] for event in events if "staleness_steps" in event]
    faces = sum(event.get("faces_per_triplet", 0.0) * event["num_triplets"] for event in events)
    losses = [event["loss_d2"] for event in events if event["num_triplets"]]
    spent = sum(event["step_s"] for event in events)
    return Consumed(
        generation=generation,
        first_step=events[0]["step"],
        last_step=events[-1]["step"],
        num_steps=len(events),
        num_triplets=sum(triplets),
        num_empty_steps=triplets.count(0),
        repeats=sum(event["repeats"] for event in events),
        mean_loss_d2=sum(losses) / max(len(losses), 1),
        faces_per_triplet=faces / sum(triplets) if sum(triplets) else None,
        at_takeover=_shares(events[:1]),
        overall=_shares(events),
        min_staleness_steps=min(ages, default=None),
        max_staleness_steps=max(ages, default=None),
        wait_share=sum(event["wait_s"] for event in events) / spent if spent else 0.0,
    )


def _shares(events: list[Mapping[str, Any]]) -> KindShares:
    """Average the events' shares, each weighing as much as it has triplets."""
    count: int = max(sum(event["num_triplets"] for event in events), 1)

    def mean(name: str) -> float:
        total: float = sum(event[name] * event["num_triplets"] for event in events)
        return total / count

    return KindShares(
        active=mean("active_share"),
        in_band=mean("in_band_share"),
        now_hard=mean("now_hard_share"),
        now_easy=mean("now_easy_share"),
    )
