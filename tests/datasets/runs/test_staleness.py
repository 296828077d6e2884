from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.datasets.runs.clock import RunClock
from facequarry.datasets.runs.refreshes import read_refreshes
from facequarry.datasets.runs.staleness import (
    longest_refresh_steps,
    staleness_bound,
)
from facequarry.miner.queue.queue import QueueState, Switch, add_grant, add_switch, lease_at


def num_failed(miner: Sequence[dict[str, Any]]) -> int:
    """Return the failures as every reader of a run counts them."""
    # Only refreshes that say which generation they are of are told apart here.
    begun = [event | {"generation": event.get("generation", 0)} for event in miner]
    refreshes = read_refreshes(begun, [], RunClock(begun), is_live=False)
    return sum(refresh.outcome == "failed" for refresh in refreshes)


class FakeLoop:
    """Training, mining and granting under a clock that counts steps.

    At each tick one step completes. A checkpoint appears every `every` steps; the miner takes
    `duration` ticks a refresh, which may fail, and then the newest checkpoint. Batches are asked
    for `prefetch` + 1 steps ahead, as the trainer's maker thread does.
    """

    def __init__(
        self,
        every: int,
        durations: list[int],
        prefetch: int,
        carry_over: float = 0.0,
        fails: Sequence[bool] = (False,),
    ) -> None:
        self.every, self.durations, self.prefetch = every, durations, prefetch
        self.fails = fails
        self.state = QueueState(batch=2, carry_over=carry_over, seed=0)
        self.number = self.tries = self.mined = 0
        self.staleness: list[int] = []
        self.mined_at_step: dict[int | None, int] = {}
        self.trainer: list[dict[str, object]] = []
        self.miner: list[dict[str, object]] = []

    def run(self, steps: int) -> None:
        self._publish(0)  # training waits for the first generation
        free_at = 0
        busy_with: int | None = None
        for step in range(steps):
            newest = step // self.every * self.every
            if newest == step:
                self.trainer.append({"event": "checkpoint", "step": step, "time": step})
            if busy_with is not None and step >= free_at:
                self._end(busy_with, step)
                busy_with = None
            if busy_with is None and newest > self.mined:
                self.miner.append({"event": "begin", "checkpoint_step": newest, "time": step})
                free_at = step + self.durations[self.tries % len(self.durations)]
                busy_with = newest
                if free_at == step:
                    self._end(newest, step)
                    busy_with = None
            self._ask(step + self.prefetch + 1)
            ranges = lease_at(self.state, step).ranges
            self.staleness.append(max(step - self.mined_at_step[r.generation] for r in ranges))
            self.trainer.append({"event": "step", "step": step, "time": step + 0.5})

    def _end(self, checkpoint_step: int, now: int) -> None:
        has_failed = self.fails[self.tries % len(self.fails)]
        self.tries += 1
        event = "failed" if has_failed else "published"
        self.miner.append({"event": event, "checkpoint_step": checkpoint_step, "time": now})
        if not has_failed:
            self._publish(checkpoint_step)
            self.mined = checkpoint_step

    def _publish(self, mined_at_step: int) -> None:
        switch = Switch(self.number, self.state.granted_through + 1, 2, mined_at_step)
        self.mined_at_step[self.number] = mined_at_step
        self.state = add_switch(self.state, switch)
        self.number += 1

    def _ask(self, through: int) -> None:
        while self.state.granted_through < through:
            asked = self.state.granted_through + 1
            self.state = add_grant(self.state, asked + self.prefetch - 1)


@settings(max_examples=60, deadline=None)
@given(
    every=st.integers(1, 40),
    durations=st.lists(st.integers(0, 100), min_size=1, max_size=5),
    prefetch=st.integers(1, 5),
    carry_over=st.sampled_from([0.0, 0.5]),
)
def test_staleness_stays_below_its_bound(
    every: int, durations: list[int], prefetch: int, carry_over: float
) -> None:
    loop = FakeLoop(every, durations, prefetch, carry_over)
    loop.run(steps=6 * (every + max(durations)) + 50)
    bound = staleness_bound(every, max(durations), prefetch=prefetch, is_carried=carry_over > 0)
    assert max(loop.staleness) < bound


@settings(max_examples=100, deadline=None)
@given(
    every=st.integers(1, 40),
    durations=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    prefetch=st.integers(1, 5),
    carry_over=st.sampled_from([0.0, 0.5]),
    fails=st.lists(st.booleans(), min_size=1, max_size=6),
)
def test_the_measured_bound_holds_where_refreshes_fail(
    every: int, durations: list[int], prefetch: int, carry_over: float, fails: list[bool]
) -> None:
    loop = FakeLoop(every, durations, prefetch, carry_over, fails)
    loop.run(steps=500)
    longest = longest_refresh_steps(loop.trainer, loop.miner, [])
    bound = staleness_bound(every, longest, prefetch=prefetch, is_carried=carry_over > 0)
    assert max(loop.staleness) < bound


@pytest.mark.parametrize("carry_over", [0.0, 0.5])
def test_the_bound_is_nearly_reached(carry_over: float) -> None:
    loop = FakeLoop(every=20, durations=[15], prefetch=2, carry_over=carry_over)
    loop.run(steps=300)
    bound = staleness_bound(20, 15, prefetch=2, is_carried=carry_over > 0)
    assert bound - max(loop.staleness) <= 4


@pytest.mark.parametrize(("is_carried", "bound"), [(False, 26), (True, 52)])
def test_a_limit_that_is_waited_at_bounds_any_refresh(is_carried: bool, bound: int) -> None:
    assert staleness_bound(20, 900, prefetch=2, is_carried=is_carried, limit=25) == bound


def test_a_limit_that_is_never_reached_leaves_the_bound_as_it_is() -> None:
    assert staleness_bound(20, 5, prefetch=2, limit=500) == staleness_bound(20, 5, prefetch=2)


def test_refresh_length_counts_the_steps_that_training_made_meanwhile() -> None:
    trainer = [{"event": "checkpoint", "step": 0, "time": 0.0}]
    trainer += [{"event": "step", "step": s, "time": 1.0 + s} for s in range(10)]
    trainer += [{"event": "checkpoint", "step": 4, "time": 4.5}]
    miner = [
        {"event": "published", "checkpoint_step": 0, "time": 0.5},
        {"event": "published", "checkpoint_step": 4, "time": 7.5},
    ]
    assert longest_refresh_steps(trainer, miner, []) == 3


def test_a_refresh_that_was_cut_off_counts_as_failed_and_its_time_as_waited() -> None:
    trainer = [{"event": "checkpoint", "step": s, "time": float(s)} for s in (0, 10, 20)]
    trainer += [{"event": "step", "step": s, "time": s + 0.5} for s in range(30)]
    miner = [
        {"event": "begin", "attempt": 1, "generation": 1, "checkpoint_step": 0, "time": 0.0},
        {"event": "published", "attempt": 1, "checkpoint_step": 0, "time": 0.0},
        {
            "event": "begin",
            "attempt": 1,
            "generation": 1,
            "checkpoint_step": 10,
            "time": 10.0,
        },  # killed here
        {"event": "begin", "attempt": 1, "generation": 1, "checkpoint_step": 20, "time": 21.0},
        {"event": "published", "attempt": 1, "checkpoint_step": 20, "time": 24.0},
    ]
    assert num_failed(miner) == 1
    assert longest_refresh_steps(trainer, miner, []) == 14


def test_a_refresh_that_the_end_of_training_cut_off_did_not_fail() -> None:
    trainer = [{"event": "checkpoint", "step": 0, "time": 0.0}]
    trainer += [{"event": "step", "step": s, "time": s + 0.5} for s in range(8)]
    begin = {"event": "begin", "generation": 0, "checkpoint_step": 0, "time": 0.0}
    miner = [begin | {"attempt": 1}, begin | {"attempt": 2}]
    assert num_failed(miner) == 0
    assert longest_refresh_steps(trainer, miner, []) == 8


def test_a_refresh_whose_generation_was_never_served_lasts_until_the_next_one() -> None:
    trainer = [{"event": "checkpoint", "step": s, "time": float(s)} for s in (0, 10, 20)]
    trainer += [{"event": "step", "step": s, "time": s + 0.5} for s in range(30)]
    miner = [
        {"event": "published", "generation": n, "checkpoint_step": 10 * n, "time": 10.0 * n + 3}
        for n in range(3)
    ]
    queue = [{"event": "switch", "generation": 0}, {"event": "skipped", "generation": 1}]
    assert longest_refresh_steps(trainer, miner, []) == 3
    assert longest_refresh_steps(trainer, miner, queue) == 13


def test_a_refresh_that_says_why_it_failed_counts_once() -> None:
    miner = [
        {"event": "begin", "attempt": 1, "generation": 1, "checkpoint_step": 0, "time": 0.0},
        {"event": "failed", "attempt": 1, "checkpoint_step": 0, "time": 1.0},
        {"event": "begin", "attempt": 1, "generation": 1, "checkpoint_step": 0, "time": 2.0},
    ]
    assert num_failed(miner) == 1


def test_a_refresh_whose_miner_was_killed_after_it_published_did_not_fail() -> None:
    begin = {"event": "begin", "attempt": 1, "checkpoint_step": 0, "time": 0.0}
    assert num_failed([begin | {"generation": 0}, begin | {"generation": 1}]) == 0
    assert num_failed([begin | {"generation": 0}, begin | {"generation": 0}]) == 1
