"""What a miner of tasks does: it holds rows of the gallery and searches between two blocks.

It sits under the actors of `spread.actor_pool`, and in tests in their place. All rows are held
where they fit, else a shard of them; rows of a block that is not held visit with the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facequarry.miner.core.search import Workers
from facequarry.miner.engines.exact import ExactSearch
from facequarry.miner.kernels.layout import Int64Array, Query, Rows
from facequarry.miner.spread.row_slices import cut_rows, join_rows
from facequarry.miner.spread.spread import Answer, Limits, Part, Span, Task, limited, pack_lists


@dataclass(frozen=True, slots=True)
class Held:
    """Rows that stay with a miner."""

    begin: int
    """Gallery row of the first one."""
    rows: Rows
    """`first` and `last` count from `begin`."""

    def cut(self, span: Span) -> Rows:
        """Return the rows of a block that is held."""
        return cut_rows(self.rows, Span(span.begin - self.begin, span.end - self.begin))


class TaskMiner:
    """Answers tasks exactly.

    Args:
        spans: the gallery's blocks.
        held: the rows that it is asked about most.
        threads: of the search.
    """

    def __init__(self, spans: Sequence[Span], held: Held, threads: int) -> None:
        self._spans = spans
        self._held = held
        self._workers = Workers(threads)
        self._engine = ExactSearch(held.rows, self._workers)

    def answer(
        self,
        task: Task,
        limits: Limits,
        parts: Sequence[Part],
        visiting: Mapping[int, Rows] | None = None,
    ) -> Answer:
        """Search between the task's blocks.

        Args:
            task: the pair of blocks.
            limits: of its searches.
            parts: by block of the task.
            visiting: rows of the blocks that are not held.
        """
        engine, here = self._engine_for(task, visiting or {})
        shifts = [
            local.begin - self._spans[block].begin
            for local, block in zip(here, task.blocks, strict=True)
        ]
        anchors = np.concatenate([p.anchors + s for p, s in zip(parts, shifts, strict=True)])
        queries = [_join(parts, limits, position) for position in range(len(parts[0].queries))]
        found = engine.search_between(anchors, queries, range(*here[0]), range(*here[-1]))
        middles = [query.slot.size for query in parts[0].queries]
        # What the searches of one block found are rows of the other one.
        answer = [
            tuple(
                pack_lists(one.best, 0, middle, -shifts[-1])
                for one, middle in zip(found, middles, strict=True)
            )
        ]
        if len(parts) > 1:
            answer.append(
                tuple(
                    pack_lists(one.best, middle, one.best.num.size, -shifts[0])
                    for one, middle in zip(found, middles, strict=True)
                )
            )
        return tuple(answer)

    def _engine_for(
        self, task: Task, visiting: Mapping[int, Rows]
    ) -> tuple[ExactSearch, list[Span]]:
        """Return what searches, and the task's blocks as it counts rows."""
        spans = [self._spans[block] for block in task.blocks]
        if not visiting:
            begin = self._held.begin
            return self._engine, [Span(span.begin - begin, span.end - begin) for span in spans]
        pieces = [
            visiting[block] if block in visiting else self._held.cut(span)
            for block, span in zip(task.blocks, spans, strict=True)
        ]
        ends = np.cumsum([piece.ids.size for piece in pieces]).tolist()
        here = [Span(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]
        return ExactSearch(join_rows(pieces), self._workers), here


def _join(parts: Sequence[Part], limits: Limits, position: int) -> Query:
    """Return one query of all parts together, within its limits."""
    queries = [
        limited(part.queries[position], limit[position])
        for part, limit in zip(parts, limits, strict=True)
    ]
    slots: list[Int64Array] = []
    num_anchors = 0
    for query, part in zip(queries, parts, strict=True):
        slots.append(query.slot + num_anchors)
        num_anchors += part.anchors.size
    return queries[0]._replace(
        slot=np.concatenate(slots),
        low=np.concatenate([query.low for query in queries]),
        high=np.concatenate([query.high for query in queries]),
        state=np.concatenate([query.state for query in queries]),
    )
