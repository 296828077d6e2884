"""Which rows of the gallery each miner of tasks holds: all of them, or a shard."""

from __future__ import annotations

from collections.abc import Sequence

from facequarry.miner.kernels.layout import Rows
from facequarry.miner.spread.row_slices import cut_rows
from facequarry.miner.spread.spread import Span, Task
from facequarry.miner.spread.task_miner import Held


class Placement:
    """Says who holds which blocks.

    Args:
        spans: the gallery's blocks.
        num_miners: at most; nobody is without a block.
        sharded: each holds a run of blocks of its own, in place of all.
    """

    def __init__(self, spans: Sequence[Span], num_miners: int, *, sharded: bool) -> None:
        self.spans = spans
        self.sharded = sharded
        count = len(spans)
        self.num_miners = num_miners = min(num_miners, count)
        self._held = [
            range(count * seat // num_miners, count * (seat + 1) // num_miners)
            if sharded
            else range(count)
            for seat in range(num_miners)
        ]

    def fit(self, task: Task, seat: int) -> int:
        """Return how well a task suits a miner: best where none of its blocks has to visit."""
        return -len(self.visitors(task, seat))

    def visitors(self, task: Task, seat: int) -> list[int]:
        """Return the task's blocks that the miner does not hold."""
        return [block for block in task.blocks if block not in self._held[seat]]

    def held_blocks(self, seat: int) -> Sequence[int]:
        """Return the blocks that a miner holds, a run of them."""
        return self._held[seat]

    def held_span(self, seat: int) -> Span:
        """Return the rows that a miner holds."""
        blocks = self._held[seat]
        return Span(self.spans[blocks[0]].begin, self.spans[blocks[-1]].end)

    def held(self, rows: Rows, seat: int) -> Held:
        """Return what a miner holds."""
        span = self.held_span(seat)
        return Held(begin=span.begin, rows=cut_rows(rows, span))

    def block(self, rows: Rows, block: int) -> Rows:
        """Return the rows of one block, as they visit."""
        return cut_rows(rows, self.spans[block])
