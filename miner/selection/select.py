"""Searches to triplets, counts and suspects, the same way for every engine.

Hard, semi-hard and easy partition all triplets: d2_an <= d2_ap, d2_ap < d2_an < edge and the
rest, with the edge of `core.distance` (FaceNet, Schroff et al. 2015, section 3.2).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.runs.vocabulary import (
    EASY,
    HARD,
    KINDS,
    RANDOM,
    REASONS,
    UNDER_DUPLICATE_FLOOR,
    names,
)
from facequarry.miner.config import MinerConfig, Rung
from facequarry.miner.core.distance import band, edge, lowest
from facequarry.miner.core.hashing import NEGATIVE, hash_state
from facequarry.miner.core.search import Search, Workers, search_hashes
from facequarry.miner.kernels.layout import (
    FARTHEST,
    HASH,
    NEAREST,
    Float32Array,
    Found,
    Int64Array,
    Query,
    Rows,
    make_query,
)
from facequarry.miner.selection.pairs import Pairs
from facequarry.miner.selection.stats import Counts, histogram
from facequarry.miner.selection.tables import (
    Suspects,
    Triplets,
    cap_uses,
    concatenate,
    in_order,
    num_pairs,
)

LISTED_DUPLICATES = 8
"""Negatives under duplicate_floor that are listed per anchor, nearest first; all are counted.

A collapsed network puts every face under the floor, and a list of N x N is of no use to anyone.
"""

_INFINITY = np.float32(np.inf)


class Selector:
    """Turns one band of pairs after the other into triplets, and adds up the counts.

    Args:
        rows: the gallery.
        search: the engine.
        config: what to prefer, how many, and what to fall back to.
        seed: of the hash that random choices follow.
        workers: threads for the random rung.
    """

    def __init__(
        self, rows: Rows, search: Search, config: MinerConfig, seed: int, workers: Workers
    ) -> None:
        self._rows = rows
        self._search = search
        self._config = config
        self._seed = seed
        self._workers = workers
        self._floor = lowest(config.duplicate_floor)
        self.counts = Counts(pairs_by_rung=dict.fromkeys(config.fallback, 0))
        self.search_s = 0.0
        """Seconds spent in the engine so far."""

    def select(self, bands: Iterable[Pairs]) -> tuple[Triplets, Suspects]:
        """Mine one band of anchors after the other.

        Returns:
            The triplets of all bands, in the order of the table and none over
            `max_uses_as_negative`; and the suspects, a pair perhaps from both sides.
        """
        parts = [self._select(pairs) for pairs in bands]
        found = in_order(self._rows.ids, [triplets for triplets, _ in parts])
        triplets = self._within_uses(found)
        by_kind = np.bincount(triplets.kind, minlength=len(KINDS)).tolist()
        self.counts.rows_by_kind = dict(zip(names(KINDS), by_kind, strict=True))
        return triplets, concatenate(Suspects, [suspects for _, suspects in parts])

    def _within_uses(self, found: Triplets) -> Triplets:
        most = self._config.max_uses_as_negative
        if most is None:
            return found
        kept = cap_uses(self._rows.ids, found, most, self._seed)
        self.counts.over_max_uses = found.anchor.size - kept.anchor.size
        self.counts.pairs_without_rows += num_pairs(found) - num_pairs(kept)
        return kept

    def _select(self, all_pairs: Pairs) -> tuple[Triplets, Suspects]:
        config, counts = self._config, self.counts
        pairs = _to_mine(all_pairs)
        in_band, nearest, duplicates = self._ask(pairs)
        found_any = in_band.best.num > 0
        counts.pairs += all_pairs.slot.size
        counts.suspect += int(all_pairs.is_suspect.sum())
        counts.semi_hard += int(found_any.sum())
        counts.band_empty += int((~found_any & in_band.complete).sum())
        counts.beyond_search += int((~found_any & ~in_band.complete).sum())
        counts.d2_ap += histogram(all_pairs.d2_ap)
        counts.nearest_d2_an += histogram(nearest.best.d2[nearest.best.num > 0, 0])
        if config.negatives == "hardest":
            served = [self._rows_of(pairs, nearest, pairs.slot)]
        else:
            every = np.arange(pairs.slot.size)
            served = [self._rows_of(pairs, in_band, every), *self._fall_back(pairs, ~found_any)]
        triplets = concatenate(Triplets, served)
        counts.pairs_without_rows += pairs.slot.size - num_pairs(triplets)
        return triplets, self._suspects(all_pairs, duplicates)

    def has_semi_hard(self, all_pairs: Pairs) -> NDArray[np.bool_]:
        """Return, for each pair that is not suspect, whether a negative in its band is found."""
        pairs = _to_mine(all_pairs)
        query = self._band_query(pairs, wanted=1, order=NEAREST)
        return self._find(pairs.anchors, [query])[0].best.num > 0

    def _find(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        began = time.perf_counter()
        found = self._search.search(anchors, queries)
        self.search_s += time.perf_counter() - began
        return found

    def _ask(self, pairs: Pairs) -> tuple[Found, Found, Found | None]:
        """Ask for each pair's band, each anchor's nearest negatives, and its duplicates."""
        config = self._config
        hardest = config.negatives == "hardest"
        every = np.arange(pairs.anchors.size)
        queries = [
            self._band_query(
                pairs,
                wanted=1 if hardest else config.negatives_per_pair,
                order=HASH if config.negatives == "random" else NEAREST,
            ),
            make_query(
                every,
                self._floor,
                _INFINITY,
                wanted=config.negatives_per_pair if hardest else 1,
                distinct=config.distinct_negative_identities,
            ),
        ]
        if config.duplicate_floor is None:
            in_band, nearest = self._find(pairs.anchors, queries)
            return in_band, nearest, None
        below = np.nextafter(self._floor, np.float32(-np.inf))
        queries.append(
            make_query(
                every,
                np.float32(0),
                below,
                wanted=LISTED_DUPLICATES,
                counted=True,
            )
        )
        in_band, nearest, duplicates = self._find(pairs.anchors, queries)
        return in_band, nearest, duplicates

    def _band_query(self, pairs: Pairs, *, wanted: int, order: int) -> Query:
        low, high = band(pairs.d2_ap, self._config.margin, self._config.duplicate_floor)
        return self._query(pairs, low, high, wanted=wanted, order=order)

    def _query(
        self,
        pairs: Pairs,
        low: Float32Array | np.float32,
        high: Float32Array | np.float32,
        *,
        order: int,
        wanted: int,
    ) -> Query:
        state = None
        if order == HASH:
            ids, anchor = self._rows.ids, pairs.anchors[pairs.slot]
            state = hash_state(self._seed, NEGATIVE, ids[anchor], ids[pairs.positive])
        return make_query(
            pairs.slot,
            low,
            high,
            state=state,
            order=order,
            wanted=wanted,
            distinct=self._config.distinct_negative_identities,
        )

    def _fall_back(self, pairs: Pairs, unserved: NDArray[np.bool_]) -> list[Triplets]:
        """Try the rungs in order on the pairs whose band gave nothing."""
        served = []
        for rung in self._config.fallback:
            left = np.flatnonzero(unserved)
            if not left.size:
                break
            part = _take(pairs, left)
            found = self._ask_rung(part, rung)
            served.append(
                self._rows_of(part, found, np.arange(left.size), is_random=rung == "random")
            )
            self.counts.pairs_by_rung[rung] += int((found.best.num > 0).sum())
            unserved[left[found.best.num > 0]] = False
        return served

    def _ask_rung(self, pairs: Pairs, rung: Rung) -> Found:
        wanted = self._config.negatives_per_pair
        match rung:
            case "random":
                query = self._query(pairs, self._floor, _INFINITY, order=HASH, wanted=wanted)
                return search_hashes(self._rows, pairs.anchors, query, self._workers)
            case "easy":
                above = np.nextafter(pairs.d2_ap, _INFINITY)
                low = np.maximum(edge(pairs.d2_ap, self._config.margin), above)
                low = np.maximum(low, self._floor)
                query = self._query(pairs, low, _INFINITY, order=NEAREST, wanted=wanted)
            case "hard":
                query = self._query(pairs, self._floor, pairs.d2_ap, order=FARTHEST, wanted=wanted)
        # Only the anchors that are still unserved are searched again.
        asked, slot = np.unique(query.slot, return_inverse=True)
        query = query._replace(slot=slot.astype(np.int64))
        return self._find(pairs.anchors[asked], [query])[0]

    def _rows_of(
        self, pairs: Pairs, found: Found, answer: Int64Array, *, is_random: bool = False
    ) -> Triplets:
        """Return the rows of each pair, whose negatives are those of search `answer[pair]`."""
        num = found.best.num[answer]
        pair = np.repeat(np.arange(pairs.slot.size), num)
        rank = np.arange(pair.size) - np.repeat(np.cumsum(num) - num, num)
        d2_ap, d2_an = pairs.d2_ap[pair], found.best.d2[answer[pair], rank]
        kind = np.zeros(pair.size, np.int32)
        kind[d2_an >= edge(d2_ap, self._config.margin)] = KINDS.index(EASY)
        kind[d2_an <= d2_ap] = KINDS.index(HARD)  # last: a tiny margin rounds its edge to d2_ap
        if is_random:
            kind[:] = KINDS.index(RANDOM)
        return Triplets(
            anchor=pairs.anchors[pairs.slot[pair]],
            positive=pairs.positive[pair],
            negative=found.best.row[answer[pair], rank].astype(np.int64),
            d2_ap=d2_ap,
            d2_an=d2_an,
            kind=kind,
        )

    def _suspects(self, pairs: Pairs, duplicates: Found | None) -> Suspects:
        over = np.flatnonzero(pairs.is_suspect)
        face_a, face_b, d2 = (
            pairs.anchors[pairs.slot[over]],
            pairs.positive[over],
            pairs.d2_ap[over],
        )
        if duplicates is not None:
            self.counts.suspect_negatives += int(duplicates.best.total.sum())
            listed = duplicates.best.row >= 0
            face_a = np.concatenate([face_a, np.repeat(pairs.anchors, duplicates.best.num)])
            face_b = np.concatenate([face_b, duplicates.best.row[listed]])
            d2 = np.concatenate([d2, duplicates.best.d2[listed]])
        reason = np.zeros(face_a.size, np.int32)
        reason[over.size :] = REASONS.index(UNDER_DUPLICATE_FLOOR)
        return Suspects(reason=reason, face_a=face_a, face_b=face_b, d2=d2)


def _to_mine(pairs: Pairs) -> Pairs:
    """Return the pairs that are not suspect; not a copy where none is: nobody writes to them."""
    if not pairs.is_suspect.any():
        return pairs
    return _take(pairs, np.flatnonzero(~pairs.is_suspect))


def _take(pairs: Pairs, which: Int64Array) -> Pairs:
    return Pairs(
        anchors=pairs.anchors,
        slot=pairs.slot[which],
        positive=pairs.positive[which],
        d2_ap=pairs.d2_ap[which],
        is_suspect=pairs.is_suspect[which],
    )
