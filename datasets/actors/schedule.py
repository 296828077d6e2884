"""Who does which task: what waits, what is in hand, and what a dead worker leaves behind.

Plain Python under `actors.pool`, which asks Ray; a test plays the workers itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

TASKS_IN_HAND = 2
"""Enough that a worker never waits for the next task, nor for what has to travel with it."""


@dataclass(frozen=True, slots=True)
class Death(Generic[T]):
    """What a dead worker leaves behind."""

    task: T | None
    """What it was at; None while it started, or between two tasks."""
    deaths: int
    """Of workers in a row at this task, or at none, this one included."""
    num_tasks: int
    """Tasks that wait again."""


class Schedule(Generic[T]):
    """Tasks on their way through a few workers; each one is answered exactly once.

    Args:
        tasks: given out in this order.
        num_workers: they are called by their seat, from 0; who takes the place of a dead one has
            its seat.
        tasks_in_hand: most that a worker has at a time.
    """

    def __init__(
        self, tasks: Sequence[T], num_workers: int, tasks_in_hand: int = TASKS_IN_HAND
    ) -> None:
        self._tasks = tasks
        self._tasks_in_hand = tasks_in_hand
        self._waiting = list(range(len(tasks)))
        self._in_hand: list[list[int]] = [[] for _ in range(num_workers)]
        self._deaths: Counter[int | None] = Counter()
        self.num_open = len(tasks)
        """Tasks without an answer."""

    def next_for(self, seat: int) -> tuple[int, T] | None:
        """Give a worker one more task, with its number; None when it has enough, or none waits.

        Near the end nobody is given a second one: another might be idle by then.
        """
        in_hand = len(self._in_hand[seat])
        is_near_end = len(self._waiting) < len(self._in_hand)
        if not self._waiting or in_hand >= (1 if is_near_end else self._tasks_in_hand):
            return None
        number = self._waiting.pop(0)
        self._in_hand[seat].append(number)
        return number, self._tasks[number]

    def in_hand(self) -> list[T]:
        """Return the tasks that are in hand, by seat."""
        return [self._tasks[number] for numbers in self._in_hand for number in numbers]

    def started(self) -> None:
        """Take note that a worker has started: those that died before it were no row."""
        self._deaths.pop(None, None)

    def answered(self, seat: int, number: int) -> T:
        """Take note of an answer.

        Raises:
            ValueError: the task is not in this worker's hand, such as after its death.
        """
        self._in_hand[seat].remove(number)
        self.num_open -= 1
        self._deaths.pop(number, None)
        self._deaths.pop(None, None)
        return self._tasks[number]

    def bury(self, seat: int) -> Death[T]:
        """Let the tasks of a dead worker wait again, before all others.

        Args:
            seat: the worker's.
        """
        numbers = self._in_hand[seat]
        self._in_hand[seat] = []
        self._waiting = numbers + self._waiting
        at = numbers[0] if numbers else None  # the others were only next
        self._deaths[at] += 1
        return Death(
            task=None if at is None else self._tasks[at],
            deaths=self._deaths[at],
            num_tasks=len(numbers),
        )
