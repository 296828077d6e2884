"""Miners of tasks in this process: any number, mortal if asked."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from facequarry.datasets.actors.schedule import Schedule
from facequarry.miner.config import MinerConfig
from facequarry.miner.core.search import Workers
from facequarry.miner.engines.opening import OpenEngine
from facequarry.miner.kernels.layout import Rows
from facequarry.miner.spread.spread import (
    Answer,
    Limits,
    Part,
    Span,
    SpreadSearch,
    Task,
    cut_blocks,
)
from facequarry.miner.spread.task_miner import TaskMiner


class MinersHere:
    """Plays miners in this process; which of them is asked next follows a seed.

    Args:
        rows: the gallery.
        spans: its blocks.
        num_miners: at most; nobody is without a block.
        deaths: how many of them die with tasks in hand.
        seed: of the order of things.
    """

    def __init__(
        self, rows: Rows, spans: Sequence[Span], num_miners: int, *, deaths: int = 0, seed: int = 0
    ) -> None:
        self._rows = rows
        self._spans = spans
        self._deaths = deaths
        self._random = random.Random(seed)
        self._seats = [self._start() for _ in range(min(num_miners, len(spans)))]

    def answers(
        self, tasks: Sequence[Task], parts: Sequence[Part], limits: Callable[[Task], Limits]
    ) -> Iterator[tuple[Task, Answer]]:
        schedule = Schedule(tasks, len(self._seats))
        in_hand: list[tuple[int, int, Task, Limits]] = []
        while schedule.num_open:
            for seat in self._random.sample(range(len(self._seats)), len(self._seats)):
                while given := schedule.next_for(seat):
                    in_hand.append((seat, *given, limits(given[1])))
            if self._deaths and self._random.random() < 0.3:
                seat = in_hand[0][0]
                self._deaths -= 1
                schedule.bury(seat)
                in_hand = [asked for asked in in_hand if asked[0] != seat]
                self._seats[seat] = self._start()
                continue
            chosen = self._random.randrange(len(in_hand))
            seat, number, task, narrow = in_hand.pop(chosen)
            chosen_parts = [parts[block] for block in task.blocks]
            answer = self._seats[seat].answer(task, narrow, chosen_parts)
            yield schedule.answered(seat, number), answer

    def _start(self) -> TaskMiner:
        return TaskMiner(self._spans, self._rows, threads=1)


def spread(
    rows: Rows,
    num_miners: int,
    *,
    num_blocks: int = 4,
    deaths: int = 0,
    seed: int = 0,
) -> SpreadSearch:
    """Return a search shared out in this process."""
    spans = cut_blocks(rows.first, num_blocks)
    miners = MinersHere(rows, spans, num_miners, deaths=deaths, seed=seed)
    return SpreadSearch(rows, spans, miners)


def open_spread(num_miners: int, **options: Any) -> OpenEngine:
    """Return what opens a shared-out search for `mine`."""

    @contextlib.contextmanager
    def open_engine(rows: Rows, config: MinerConfig, workers: Workers) -> Iterator[SpreadSearch]:
        yield spread(rows, num_miners, **options)

    return open_engine
