from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from facequarry.miner.queue.queue import QueueState, Switch, add_grant, add_switch, lease_at
from facequarry.miner.queue.retire import deletable_generations


@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=8),
    kept=st.sets(st.integers(0, 40), max_size=4),
    carry_over=st.sampled_from([0.0, 0.5]),
    keep=st.integers(1, 4),
    passed_over=st.sets(st.integers(0, 12), max_size=3),
    is_random_first=st.booleans(),
)
def test_no_kept_checkpoint_ever_needs_a_generation_that_may_go(
    lengths: list[int],
    kept: set[int],
    carry_over: float,
    keep: int,
    passed_over: set[int],
    is_random_first: bool,
) -> None:
    state = QueueState(batch=4, carry_over=carry_over, seed=0)
    if is_random_first:
        state = add_grant(add_switch(state, Switch(None, 0, 0, 0)), 2)
    numbers = [n for n in range(len(lengths) + len(passed_over)) if n not in passed_over]
    for number, length in zip(numbers, lengths, strict=False):
        first_step = state.granted_through + 1
        state = add_switch(state, Switch(number, first_step, 40, 0))
        if length:
            state = add_grant(state, state.granted_through + length)
    published = sorted({*numbers[: len(lengths)], *passed_over})
    gone = deletable_generations(
        state,
        passed_over=passed_over,
        published=published,
        checkpoint_steps=sorted(kept),
        keep=keep,
    )
    assert not set(gone) & set(published[-keep:])
    assert not set(gone) & {switch.generation for switch in state.switches[-2:]}
    kept.discard(0)
    if gone:
        assert kept
        for step in range(min(kept), state.granted_through + 1):
            assert not {r.generation for r in lease_at(state, step).ranges} & set(gone)


def test_what_no_checkpoint_needs_goes() -> None:
    state = QueueState(batch=4, carry_over=0.0, seed=0)
    for number in range(5):
        state = add_switch(state, Switch(number, 10 * number, 40, 10 * number))
        state = add_grant(state, 10 * number + 9)

    def gone(*checkpoint_steps: int, carry_over: float = 0.0) -> list[int]:
        told = QueueState(4, carry_over, 0, state.switches, state.granted_through)
        return deletable_generations(
            told,
            passed_over=[],
            published=range(5),
            checkpoint_steps=checkpoint_steps,
            keep=1,
        )

    assert gone(0, 40, 50) == [0, 1, 2]
    assert gone(0, 20, 50) == [0, 1]
    assert gone(0, 19, 50) == [0]
    assert gone(0, 20, 50, carry_over=0.5) == [0]  # its rows are carried until step 19
    assert gone(0) == []
    assert gone() == []
