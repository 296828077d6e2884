"""The routed engine: an exact scan of the identities with which an anchor's own is confused.

Semi-hard negatives of a trained network lie in few identities. Each anchor is therefore compared
with all faces of its identity's R nearest identities, by the defined d2; a search that is still
empty handed then looks at a sample of the whole gallery, the same for all, where bands that lie
far out and hold some percent of all faces have one. What is found is in its band; what is not
found is not proven absent, unless the identities routed to are all there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facequarry.datasets.disk.errors import BadInput
from facequarry.miner.config import MinerConfig
from facequarry.miner.core.distance import index_error
from facequarry.miner.core.hashing import SAMPLED, hash_state
from facequarry.miner.core.search import Workers
from facequarry.miner.engines.lookalikes import Int32Array, LookAlikes
from facequarry.miner.kernels.layout import (
    Best,
    Float32Array,
    Found,
    Int64Array,
    Query,
    Report,
    Rows,
    bests_of,
    open_searches,
)
from facequarry.miner.kernels.routes import d2_roughly, list_rows, scan_listed

SAMPLE = 256
"""Rows of the gallery that unresolved searches look at besides."""

_CHUNK_ANCHORS = 64
_CHUNK_ELEMENTS = 1 << 20
_MOST_ROUTES = 1 << 29  # 2 GiB of lists


class RoutedSearch:
    """Searches the look-alikes of each anchor's identity.

    Args:
        rows: the gallery.
        config: routed_identities is read, capped at all other identities.
        workers: threads; their number cannot show in results.
        seed: of the hash that draws the sample.

    Raises:
        BadInput: routed_identities times the number of identities is more than lists may take.
    """

    def __init__(self, rows: Rows, config: MinerConfig, workers: Workers, seed: int = 0) -> None:
        self._rows = rows
        self._workers = workers
        num = int(np.count_nonzero(rows.first == np.arange(rows.first.size)))
        routed = min(config.routed_identities, num - 1)
        if num * routed > _MOST_ROUTES:
            raise BadInput(
                f"routed_identities is {config.routed_identities}: for {num} identities that is "
                f"{4 * num * routed >> 30} GiB of lists; give {_MOST_ROUTES // num} or fewer, or "
                "set engine = exact"
            )
        self.exhaustive = routed == num - 1
        """Whether every identity is looked at, so that answers are proofs."""
        self._like = LookAlikes(rows, routed, workers)
        self._identity = np.repeat(np.arange(num), np.diff(self._like.bounds))
        self._routes = np.full((num, routed), -1, np.int32)
        self._is_routed = np.zeros(num, np.bool_)
        self._error = index_error(rows.x.shape[1], float(rows.norms2.max()))
        state = hash_state(seed, SAMPLED, rows.ids)
        drawn = np.argpartition(state, min(SAMPLE, state.size - 1))[:SAMPLE]
        self._sample = np.sort(drawn).astype(np.int32)

    def report(self) -> Report:
        """Say what the searches took so far."""
        return Report(engine="routed")

    def search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        """Answer queries about some anchors (see `miner.search.Search`)."""
        identity = self._identity[anchors]
        asked = np.unique(identity)
        asked = asked[~self._is_routed[asked]]
        self._routes[asked] = self._like.find(asked)
        self._is_routed[asked] = True
        pass_ = _Pass(anchors, queries)
        # Anchors of like identities follow on each other: the rows they meet are still in cache.
        order = np.argsort(self._like.cell[identity], kind="stable")
        self._workers.each(
            order.size, lambda begin, end: self._scan_routes(pass_, order[begin:end])
        )
        if not self.exhaustive:
            empty = pass_.empty_handed()
            self._workers.each(
                empty.size, lambda begin, end: self._scan_sample(pass_, empty[begin:end])
            )
        return [
            Found(best=best, complete=(query.low > query.high) | self.exhaustive)
            for query, best in zip(queries, pass_.lists, strict=True)
        ]

    def _scan_routes(self, pass_: _Pass, slots: Int64Array) -> None:
        """Offer the rows of their routed identities to all searches of the anchors at `slots`."""
        sizes = np.append(np.diff(self._like.bounds), 0)  # the last one is that of route -1
        for chunk in np.array_split(slots, -(-slots.size // _CHUNK_ANCHORS)):
            routes = self._routes[self._identity[pass_.anchors[chunk]]]
            widths = sizes[routes].sum(axis=1)
            step = max(1, _CHUNK_ELEMENTS // max(1, int(widths.max())))
            for start in range(0, chunk.size, step):
                part = slice(start, start + step)
                shape = (chunk[part].size, int(widths[part].max()))
                candidates, tile = np.empty(shape, np.int32), np.empty(shape, np.float32)
                list_rows(self._like.bounds, routes[part], candidates)
                d2_roughly(self._rows.x, pass_.anchors[chunk[part]], candidates, tile)
                pass_.offer(self._rows, chunk[part], candidates, tile, self._error, False)

    def _scan_sample(self, pass_: _Pass, slots: Int64Array) -> None:
        """Offer the sample to the searches of these anchors that have found nothing."""
        candidates = self._sample[None]
        for start in range(0, slots.size, _CHUNK_ANCHORS):
            chunk = slots[start : start + _CHUNK_ANCHORS]
            anchors = pass_.anchors[chunk]
            tile = np.empty((chunk.size, self._sample.size), np.float32)
            d2_roughly(self._rows.x, anchors, candidates, tile)
            pass_.offer(self._rows, chunk, candidates, tile, self._error, True)


class _Pass:
    """The searches of one call."""

    def __init__(self, anchors: Int64Array, queries: Sequence[Query]) -> None:
        self.anchors = anchors
        self._queries = queries
        self._searches = open_searches(queries, anchors.size)

    @property
    def lists(self) -> list[Best]:
        """The lists of each query."""
        return bests_of(self._queries, self._searches)

    def offer(
        self,
        rows: Rows,
        slots: Int64Array,
        candidates: Int32Array,
        tile: Float32Array,
        error: float,
        only_empty: bool,
    ) -> None:
        """Offer candidates (A, C) or (1, C), whose d2 is within `error` of `tile` (A, C)."""
        scan_listed(rows, self._searches, self.anchors, slots, candidates, tile, error, only_empty)

    def empty_handed(self) -> Int64Array:
        """Return the slots at which a search has found nothing."""
        is_empty = np.zeros(self.anchors.size, np.bool_)
        for query, best in zip(self._queries, self.lists, strict=True):
            is_empty[query.slot[(best.num == 0) & (query.low <= query.high)]] = True
        return np.flatnonzero(is_empty)
