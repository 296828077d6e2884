from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.datasets.generations.triplets import Lease
from facequarry.miner.queue.queue import QueueState, Switch, add_grant, add_switch, lease_at

# What can happen to a queue: a generation of so many batches, or a grant of so many steps.
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("generation"), st.integers(0, 40)),
        st.tuples(st.just("grant"), st.integers(1, 7)),
    ),
    max_size=25,
)
BATCHES = st.sampled_from([1, 4, 6, 12])
CARRY = st.sampled_from([0.0, 0.25, 0.5, 1.0])


def play(events: list[tuple[str, int]], batch: int, carry_over: float) -> QueueState:
    state = QueueState(batch=batch, carry_over=carry_over, seed=0)
    number = 0
    for event, amount in events:
        if event == "generation":
            switch = Switch(number, state.granted_through + 1, batch + amount, mined_at_step=0)
            state = add_switch(state, switch)
            number += 1
        elif state.switches:
            state = add_grant(state, state.granted_through + amount)
    return state


def rows_of(lease: Lease) -> list[tuple[int | None, int]]:
    return [(r.generation, row) for r in lease.ranges for row in range(r.start, r.stop)]


@given(EVENTS, BATCHES, CARRY)
def test_every_granted_step_has_a_full_batch(
    events: list[tuple[str, int]], batch: int, carry_over: float
) -> None:
    state = play(events, batch, carry_over)
    for step in range(state.granted_through + 1):
        assert lease_at(state, step).num_rows == batch


@given(EVENTS, EVENTS, BATCHES, CARRY)
def test_an_answer_never_changes(
    before: list[tuple[str, int]], after: list[tuple[str, int]], batch: int, carry_over: float
) -> None:
    early, late = play(before, batch, carry_over), play(before + after, batch, carry_over)
    for step in range(early.granted_through + 1):
        assert lease_at(early, step) == lease_at(late, step)


@given(EVENTS, BATCHES, CARRY)
def test_a_generation_is_served_row_by_row_in_order_main_rows_first_then_carried(
    events: list[tuple[str, int]], batch: int, carry_over: float
) -> None:
    state = play(events, batch, carry_over)
    served: dict[int | None, list[int]] = {}
    for step in range(state.granted_through + 1):
        for generation, row in rows_of(lease_at(state, step)):
            served.setdefault(generation, []).append(row)
    rows = {switch.generation: switch.rows for switch in state.switches}
    for generation, seen in served.items():
        assert seen == [i % rows[generation] for i in range(len(seen))]


@given(EVENTS, BATCHES, CARRY)
def test_repeats_count_rows_that_were_served_before(
    events: list[tuple[str, int]], batch: int, carry_over: float
) -> None:
    state = play(events, batch, carry_over)
    seen: set[tuple[int | None, int]] = set()
    for step in range(state.granted_through + 1):
        lease = lease_at(state, step)
        repeats = 0
        for row in rows_of(lease):
            repeats += row in seen
            seen.add(row)
        assert lease.repeats == repeats


@given(EVENTS, BATCHES, CARRY, st.sampled_from([1, 2, 3, 4]))
def test_ranks_partition_the_batch_in_order(
    events: list[tuple[str, int]], batch: int, carry_over: float, world_size: int
) -> None:
    state = play(events, batch, carry_over)
    for step in range(min(state.granted_through + 1, 8)):
        lease = lease_at(state, step)
        if batch % world_size:
            with pytest.raises(ValueError, match="does not divide"):
                lease.part(0, world_size)
            continue
        parts = [lease.part(rank, world_size) for rank in range(world_size)]
        joined = [
            (r.generation, row) for part in parts for r in part for row in range(r.start, r.stop)
        ]
        assert joined == rows_of(lease)
        assert {sum(r.stop - r.start for r in part) for part in parts} == {batch // world_size}


def test_the_first_generation_carries_nothing_and_the_next_one_does() -> None:
    state = QueueState(batch=4, carry_over=0.5, seed=0)
    state = add_grant(add_switch(state, Switch(0, 0, 100, 0)), 2)
    state = add_grant(add_switch(state, Switch(1, 3, 100, 50)), 4)
    assert rows_of(lease_at(state, 2)) == [(0, 8), (0, 9), (0, 10), (0, 11)]
    assert rows_of(lease_at(state, 3)) == [(1, 0), (1, 1), (0, 12), (0, 13)]
    assert rows_of(lease_at(state, 4)) == [(1, 2), (1, 3), (0, 14), (0, 15)]


def test_a_step_that_was_not_granted_has_no_answer() -> None:
    state = add_switch(QueueState(batch=4, carry_over=0, seed=0), Switch(0, 0, 8, 0))
    with pytest.raises(ValueError, match="not granted"):
        lease_at(state, 0)


def test_a_switch_cannot_change_what_was_granted() -> None:
    state = add_grant(add_switch(QueueState(batch=4, carry_over=0, seed=0), Switch(0, 0, 8, 0)), 5)
    with pytest.raises(ValueError, match="granted already"):
        add_switch(state, Switch(1, 5, 8, 0))


def test_a_generation_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than one batch"):
        add_switch(QueueState(batch=4, carry_over=0, seed=0), Switch(0, 0, 3, 0))
