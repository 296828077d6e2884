"""The bound on staleness of a run as it was made: its settings and its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facequarry.datasets.runs.staleness import measured_bound
from facequarry.jobs.config import RunConfig

Events = Sequence[Mapping[str, Any]]


def bound_of(config: RunConfig, *, trainer: Events, miner: Events, queue: Events) -> int:
    """Return a number of steps that staleness_steps stays below in this run.

    Args:
        config: the run.
        trainer: its `trainer` events in the order written.
        miner: its `miner` events.
        queue: its `queue` events.
    """
    waits = config.refresh.on_stale == "wait"
    return measured_bound(
        trainer,
        miner,
        queue,
        every=config.trainer.checkpoint_every,
        prefetch=config.trainer.prefetch,
        is_carried=config.refresh.carry_over > 0,
        is_blocking=config.refresh.mode == "blocking",
        limit=config.refresh.max_staleness_steps if waits else None,
    )
