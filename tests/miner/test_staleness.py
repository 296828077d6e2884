from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miner.queue import QueueState, Switch, add_grant, add_switch, lease_at
from miner.staleness import longest_refresh_steps, staleness_bound


class FakeLoop:
    """Training, mining and granting under a clock that counts steps.

    At each tick one step completes. A checkpoint appears every `every` steps; the miner takes
    `duration` ticks a refresh and then the newest checkpoint. Batches are asked for `prefetch` + 1
    steps ahead, as the trainer's maker thread does.
    """

    def __init__(
        self, every: int, durations: list[int], prefetch: int, carry_over: float = 0.0
    ) -> None:
        self.every, self.durations, self.prefetch = every, durations, prefetch
        self.state = QueueState(batch=2, carry_over=carry_over, seed=0)
        self.number = 0
        self.staleness: list[int] = []
        self.mined_at_step: dict[int | None, int] = {}

    def run(self, steps: int) -> None:
        self._publish(0)  # training waits for the first generation
        busy_with = free_at = mined = 0
        busy: int | None = None
        for step in range(steps):
            newest = step // self.every * self.every
            if busy is not None and step >= free_at:
                self._publish(busy_with)
                mined, busy = busy_with, None
            if busy is None and newest > mined:
                busy = busy_with = newest
                free_at = step + self.durations[self.number % len(self.durations)]
                if free_at == step:
                    self._publish(busy_with)
                    mined, busy = busy_with, None
            self._ask(step + self.prefetch + 1)
            ranges = lease_at(self.state, step).ranges
            self.staleness.append(max(step - self.mined_at_step[r.generation] for r in ranges))

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


@pytest.mark.parametrize("carry_over", [0.0, 0.5])
def test_the_bound_is_nearly_reached(carry_over: float) -> None:
    loop = FakeLoop(every=20, durations=[15], prefetch=2, carry_over=carry_over)
    loop.run(steps=300)
    bound = staleness_bound(20, 15, prefetch=2, is_carried=carry_over > 0)
    assert bound - max(loop.staleness) <= 4


def test_refresh_length_counts_the_steps_that_training_made_meanwhile() -> None:
    trainer = [{"event": "checkpoint", "step": 0, "time": 0.0}]
    trainer += [{"event": "step", "step": s, "time": 1.0 + s} for s in range(10)]
    trainer += [{"event": "checkpoint", "step": 4, "time": 4.5}]
    miner = [
        {"event": "published", "checkpoint_step": 0, "time": 0.5},
        {"event": "published", "checkpoint_step": 4, "time": 7.5},
    ]
    assert longest_refresh_steps(trainer, miner) == 3
