"""Who does which task: what waits, what is in hand, and what a dead worker leaves behind.

Plain Python under `spread.actor_pool`, which asks Ray; a test plays the workers itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from facequarry.datasets.disk.errors import Failure

T = TypeVar("T")

TASKS_IN_HAND = 2
"""Enough that a worker never waits for the next task, nor for what has to travel with it."""

MOST_DEATHS = 3
"""Of workers in a row at one task, or at none: more is no accident."""


class WorkersDied(Failure):
    """Workers die again and again."""


class Schedule(Generic[T]):
    """Tasks on their way through a few workers; each one is answered exactly once.

    Args:
        tasks: given out in this order.
        num_workers: they are called by their seat, from 0; who takes the place of a dead one has
            its seat.
        fit: how well a task suits a seat; of those that wait the best one is given out, and the
            first of the best. None: all suit alike.
        tasks_in_hand: most that a worker has at a time.
    """

    def __init__(
        self,
        tasks: Sequence[T],
        num_workers: int,
        fit: Callable[[T, int], int] | None = None,
        tasks_in_hand: int = TASKS_IN_HAND,
    ) -> None:
        self._tasks = tasks
        self._fit = fit
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
        place = 0
        if self._fit is not None:
            fits = [self._fit(self._tasks[number], seat) for number in self._waiting]
            place = fits.index(max(fits))
        number = self._waiting.pop(place)
        self._in_hand[seat].append(number)
        return number, self._tasks[number]

    def answered(self, seat: int, number: int) -> T:
        """Take note of an answer.

        Raises:
            BadInput: the task is not in this worker's hand, such as after its death.
        """
        self._in_hand[seat].remove(number)
        self.num_open -= 1
        self._deaths.pop(number, None)
        self._deaths.pop(None, None)
        return self._tasks[number]

    def bury(self, seat: int, reason: str) -> int:
        """Let the tasks of a dead worker wait again, before all others; return how many.

        Args:
            seat: the worker's.
            reason: what it died of.

        Raises:
            WorkersDied: it was the same task too often, or workers die without any.
        """
        numbers = self._in_hand[seat]
        self._in_hand[seat] = []
        self._waiting = numbers + self._waiting
        at = numbers[0] if numbers else None  # the others were only next
        self._deaths[at] += 1
        if self._deaths[at] >= MOST_DEATHS:
            where = "while starting" if at is None else f"at {self._tasks[at]}"
            raise WorkersDied(f"{self._deaths[at]} of them died {where}; the last one: {reason}")
        return len(numbers)
