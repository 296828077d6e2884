from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.datasets.actors.schedule import Death, Schedule


@given(num_tasks=st.integers(0, 12), num_workers=st.integers(1, 4), data=st.data())
def test_each_task_is_answered_once_whoever_dies(
    num_tasks: int, num_workers: int, data: st.DataObject
) -> None:
    schedule = Schedule(range(num_tasks), num_workers)
    in_hand: list[tuple[int, int]] = []
    answered: list[int] = []
    deaths = 0
    while schedule.num_open:
        for seat in data.draw(st.permutations(range(num_workers))):
            while given := schedule.next_for(seat):
                in_hand.append((seat, given[0]))
        seat, number = data.draw(st.sampled_from(in_hand))
        if deaths < 5 and data.draw(st.booleans()):
            deaths += 1
            assert schedule.bury(seat).num_tasks == sum(held[0] == seat for held in in_hand)
            in_hand = [held for held in in_hand if held[0] != seat]
        else:
            in_hand.remove((seat, number))
            answered.append(schedule.answered(seat, number))
    assert sorted(answered) == list(range(num_tasks))


def test_two_tasks_are_in_hand_but_for_the_last_ones() -> None:
    schedule = Schedule("abcde", 2)
    given = [schedule.next_for(seat) for seat in (0, 0, 0, 1, 1, 1)]
    assert given == [(0, "a"), (1, "b"), None, (2, "c"), (3, "d"), None]
    schedule.answered(0, 0)
    assert schedule.next_for(0) is None  # one waits, and the other worker may end first
    schedule.answered(1, 2)
    schedule.answered(1, 3)
    assert schedule.next_for(1) == (4, "e")


def test_as_many_tasks_are_in_hand_as_are_asked_for() -> None:
    schedule = Schedule("abcdef", 2, tasks_in_hand=1)
    given = [schedule.next_for(seat) for seat in (0, 0, 1, 1)]
    assert given == [(0, "a"), None, (1, "b"), None]


def test_a_task_is_answered_by_who_has_it() -> None:
    schedule = Schedule("ab", 2)
    assert schedule.next_for(0) == (0, "a")
    schedule.bury(0)
    assert schedule.next_for(1) == (0, "a")
    with pytest.raises(ValueError):
        schedule.answered(0, 0)
    assert schedule.answered(1, 0) == "a"


def test_deaths_at_one_task_are_counted_until_it_is_answered() -> None:
    schedule = Schedule("ab", 1)
    for deaths in (1, 2, 3):
        schedule.next_for(0)
        assert schedule.bury(0) == Death(task="a", deaths=deaths, num_tasks=1)
    schedule.next_for(0)
    schedule.answered(0, 0)
    schedule.next_for(0)
    assert schedule.bury(0) == Death(task="b", deaths=1, num_tasks=1)


def test_deaths_while_starting_are_counted_until_one_has_started() -> None:
    schedule = Schedule("ab", 1)
    assert [schedule.bury(0).deaths for _ in range(2)] == [1, 2]
    schedule.started()
    assert schedule.bury(0) == Death(task=None, deaths=1, num_tasks=0)


def test_deaths_at_different_tasks_are_no_row() -> None:
    schedule = Schedule("abcdef", 1)
    for number in range(6):
        for deaths in (1, 2):
            schedule.next_for(0)
            assert schedule.bury(0).deaths == deaths
        given = schedule.next_for(0)
        assert given == (number, "abcdef"[number])
        schedule.answered(0, number)
    assert schedule.num_open == 0
