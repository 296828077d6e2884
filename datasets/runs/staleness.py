"""How old a triplet can be when it is consumed: the bound, derived in docs/staleness.md."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from facequarry.datasets.runs.events import last_attempt_by_step, standing


def staleness_bound(
    every: int,
    refresh_steps: int,
    *,
    prefetch: int,
    is_carried: bool = False,
    is_blocking: bool = False,
    limit: int | None = None,
) -> int:
    """Return a number of steps that staleness_steps stays below.

    Args:
        every: N, steps between checkpoints.
        refresh_steps: M, the most steps that training took during one refresh, counted from when
            both its checkpoint was published and the miner was free; a refresh that failed and
            those that tried again are one.
        prefetch: steps that are granted at a time, and batches that are prepared ahead.
        is_carried: rows of the generation before are served too (`carry_over` above 0).
        is_blocking: steps after a checkpoint wait for the generation mined from it.
        limit: `refresh.max_staleness_steps` where steps wait at it; None where they do not.
    """
    bound = _unlimited_bound(
        every, refresh_steps, prefetch=prefetch, is_carried=is_carried, is_blocking=is_blocking
    )
    if limit is None:
        return bound
    # The generation before was taken over from at most one step past its own limit.
    return min(bound, 2 * limit + 2 if is_carried else limit + 1)


def _unlimited_bound(
    every: int, refresh_steps: int, *, prefetch: int, is_carried: bool, is_blocking: bool
) -> int:
    if is_blocking:
        return 2 * every if is_carried else every
    # A refresh no longer than N starts at its checkpoint; a longer one starts at a checkpoint that
    # may be almost as old as the refresh before it took.
    waits = every + refresh_steps if refresh_steps <= every else every + 2 * refresh_steps
    # The generation before was mined one checkpoint earlier; a refresh that lasts until the next
    # one may, where its first try failed, end with the newest, up to M later.
    carried = every if refresh_steps < every else every + refresh_steps
    # When a generation appears, the step in training is behind what was granted of the old one:
    # `prefetch` batches lie ready, one more is in the maker's hand, and its ask granted a block of
    # `prefetch` steps; one more step may be complete that the log does not show yet.
    return waits + (carried if is_carried else 0) + 2 * prefetch + 2


def measured_bound(
    trainer: Sequence[Mapping[str, Any]],
    miner: Sequence[Mapping[str, Any]],
    queue: Sequence[Mapping[str, Any]],
    *,
    every: int,
    prefetch: int,
    is_carried: bool,
    is_blocking: bool,
    limit: int | None,
) -> int:
    """Return what staleness_steps stays below, with the refreshes that the event log shows.

    Args:
        trainer: `trainer` events in the order written.
        miner: `miner` events in the order written.
        queue: `queue` events in the order written.
        every: as `staleness_bound` takes it, and what follows too.
        prefetch: see there.
        is_carried: see there.
        is_blocking: see there.
        limit: see there.
    """
    if was_passed_over(queue):
        # A generation that cannot be served ends a wait all the same: the next may be no better.
        is_blocking, limit = False, None
    return staleness_bound(
        every,
        longest_refresh_steps(trainer, miner, queue),
        prefetch=prefetch,
        is_carried=is_carried,
        is_blocking=is_blocking,
        limit=limit,
    )


def was_passed_over(queue: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether the queue passed a generation over while it served another."""
    has_served = False
    for event in queue:
        if event["event"] == "skipped" and has_served:
            return True
        has_served |= event["event"] == "switch" and event["generation"] is not None
    return False


def longest_refresh_steps(
    trainer: Sequence[Mapping[str, Any]],
    miner: Sequence[Mapping[str, Any]],
    queue: Sequence[Mapping[str, Any]],
) -> int:
    """Return M as the event log shows it: training steps completed during the longest refresh.

    A refresh that failed, was cut off or made a generation that was never served goes on until the
    next one is published: training goes on with the old one meanwhile. One that never ended counts
    as far as training came. What a run that was taken back gave up does not count.

    Args:
        trainer: `trainer` events in the order written.
        miner: `miner` events in the order written.
        queue: `queue` events in the order written.
    """
    trainer, miner = standing(trainer), standing(miner)
    passed_over: set[int] = set()
    for event in queue:
        if event["event"] == "skipped":
            passed_over.add(event["generation"])
        elif event["event"] == "switch":
            passed_over.discard(event["generation"])
    steps = [event for event in trainer if event["event"] == "step"]
    times = [event["time"] for event in steps]
    published_at = {e["step"]: e["time"] for e in trainer if e["event"] == "checkpoint"}
    longest, free_at = 0, 0.0
    began: float | None = None
    for event in miner:
        if event.get("checkpoint_step") is None or event["event"] == "skipped":
            continue
        if began is None:
            began = max(free_at, published_at.get(event["checkpoint_step"], 0.0))
        if event["event"] == "published" and event.get("generation") not in passed_over:
            free_at = event["time"]
            during = bisect_right(times, free_at) - bisect_right(times, began)
            longest, began = max(longest, during), None
    unended = 0 if began is None else len(times) - bisect_right(times, began)
    return max(longest, unended)


def num_steps_past_limit(
    trainer: Iterable[Mapping[str, Any]], queue: Iterable[Mapping[str, Any]], limit: int | None
) -> int:
    """Return how many steps trained on main rows older than `refresh.max_staleness_steps`.

    Args:
        trainer: events in the order written.
        queue: events in the order written.
        limit: None has no step past it.
    """
    if limit is None:
        return 0
    mined_at = {e["generation"]: e["mined_at_step"] for e in queue if e["event"] == "switch"}
    steps = last_attempt_by_step(trainer, "step")
    return sum(
        event["generation"] is not None and event["step"] - mined_at[event["generation"]] > limit
        for event in steps
    )
