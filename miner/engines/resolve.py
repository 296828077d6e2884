"""What an approximate engine leaves open is handed to the exact one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from facequarry.miner.core.search import Search
from facequarry.miner.kernels.layout import Best, Found, Int64Array, Query, Report, take_searches


class Resolving:
    """An engine that searches exactly for the anchors with which another one is not done.

    A search is open when it has found nothing and that is not proven. All searches of its anchor
    are answered anew then, so that the pairs of such an anchor are what the exact engine says.
    Counted searches (of duplicates) open nothing: hardly any anchor has one.

    Args:
        first: the approximate engine.
        open_exact: makes the exact one, when it is first needed.
    """

    def __init__(self, first: Search, open_exact: Callable[[], Search]) -> None:
        self.first = first
        """The approximate engine."""
        self._open_exact = open_exact
        self._exact: Search | None = None
        self.num_resolved = 0
        """Anchors handed over so far, once for each search call."""

    def report(self) -> Report:
        """Say what the first engine's searches took, and how many anchors were handed over."""
        return replace(self.first.report(), num_resolved=self.num_resolved)

    def search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        """Answer queries about some anchors (see `miner.search.Search`)."""
        found = self.first.search(anchors, queries)
        is_open = np.zeros(len(anchors), np.bool_)
        for query, answer in zip(queries, found, strict=True):
            if not query.counted:
                missing = (answer.best.num == 0) & ~answer.complete & (query.low <= query.high)
                is_open[query.slot[missing]] = True
        slots = np.flatnonzero(is_open)
        if not slots.size:
            return found
        self._exact = self._exact or self._open_exact()
        self.num_resolved += slots.size
        places = [np.flatnonzero(is_open[query.slot]) for query in queries]
        position = np.cumsum(is_open) - 1
        parts = [
            take_searches(query, chosen, position)
            for query, chosen in zip(queries, places, strict=True)
        ]
        answers = self._exact.search(anchors[slots], parts)
        for answer, exact, chosen in zip(found, answers, places, strict=True):
            for name in Best._fields:
                values = getattr(answer.best, name)
                if values.size:
                    values[chosen] = getattr(exact.best, name)
            answer.complete[chosen] = exact.complete
        return found
