"""What a miner of tasks does: it holds the gallery and searches between two blocks of it.

It sits under the actors of `actors.pool`, and in tests in their place.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facequarry.miner.core.search import Workers
from facequarry.miner.engines.exact import ExactSearch
from facequarry.miner.kernels.layout import Int64Array, Query, Rows
from facequarry.miner.spread.spread import Answer, Limits, Part, Span, Task, limited, pack_lists


class TaskMiner:
    """Answers tasks exactly.

    Args:
        spans: the gallery's blocks.
        rows: the gallery.
        threads: of the search.
    """

    def __init__(self, spans: Sequence[Span], rows: Rows, threads: int) -> None:
        self._spans = spans
        self._engine = ExactSearch(rows, Workers(threads))

    def answer(self, task: Task, limits: Limits, parts: Sequence[Part]) -> Answer:
        """Search between the task's blocks.

        Args:
            task: the pair of blocks.
            limits: of its searches.
            parts: by block of the task.
        """
        blocks = [range(*self._spans[block]) for block in task.blocks]
        anchors = np.concatenate([part.anchors for part in parts])
        queries = [_join(parts, limits, position) for position in range(len(parts[0].queries))]
        found = self._engine.search_between(anchors, queries, blocks[0], blocks[-1])
        middles = [query.slot.size for query in parts[0].queries]
        # The searches of the first part come first in every query.
        answer = [
            tuple(
                pack_lists(one.best, 0, middle) for one, middle in zip(found, middles, strict=True)
            )
        ]
        if len(parts) > 1:
            answer.append(
                tuple(
                    pack_lists(one.best, middle, one.best.num.size)
                    for one, middle in zip(found, middles, strict=True)
                )
            )
        return tuple(answer)


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
