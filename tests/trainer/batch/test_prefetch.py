from __future__ import annotations

import threading

import pytest

from facequarry.trainer.batch.prefetch import Prefetch


def test_items_come_in_step_order() -> None:
    with Prefetch(lambda step: step * step, range(3, 8), depth=2, timeout_s=10) as items:
        assert list(items) == [9, 16, 25, 36, 49]


def test_no_more_than_depth_plus_one_items_are_made_ahead() -> None:
    made: list[int] = []
    reached = threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if step == 4:
            reached.set()
        return step

    with Prefetch(make, range(100), depth=3, timeout_s=10) as items:
        iterator = iter(items)
        assert next(iterator) == 0
        assert reached.wait(timeout=10)
    assert max(made) <= 5


def test_an_error_is_raised_at_its_step() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("bad row")
        return step

    seen = []
    with Prefetch(make, range(9), depth=4, timeout_s=10) as items:
        with pytest.raises(ValueError, match="bad row"):
            for item in items:
                seen.append(item)
    assert seen == [0, 1]


def test_a_batch_that_does_not_come_is_named() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError, match="no batch for step 0"):
        with Prefetch(lambda _: never.wait(30), range(1), depth=1, timeout_s=0.01) as items:
            next(iter(items))
    never.set()


def test_the_consumer_is_called_while_it_waits_and_in_its_own_thread() -> None:
    wanted = threading.Event()
    callers: set[threading.Thread] = set()

    def while_waiting() -> None:
        callers.add(threading.current_thread())
        wanted.set()

    def make(step: int) -> int:
        assert wanted.wait(timeout=10)
        return step

    with Prefetch(
        make, range(2), depth=1, timeout_s=10, while_waiting=while_waiting, poll_s=0.001
    ) as items:
        assert list(items) == [0, 1]
    assert callers == {threading.current_thread()}


def test_what_fails_while_waiting_ends_the_wait() -> None:
    never = threading.Event()

    def while_waiting() -> None:
        raise FloatingPointError("weights are no numbers")

    with pytest.raises(FloatingPointError, match="no numbers"):
        with Prefetch(
            lambda _: never.wait(30),
            range(1),
            depth=1,
            timeout_s=10,
            while_waiting=while_waiting,
            poll_s=0.001,
        ) as items:
            next(iter(items))
    never.set()
