"""Which anchors are mined and which ordered anchor-positive pairs are looked at."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facequarry.miner.config import MinerConfig
from facequarry.miner.core.hashing import ANCHOR, POSITIVE, hash_state
from facequarry.miner.core.search import Workers
from facequarry.miner.kernels.hashed_d2 import d2_of_pairs
from facequarry.miner.kernels.layout import Float32Array, Int64Array, Rows
from facequarry.miner.kernels.lists import choose_by_hash

MOST_SEARCHES = 6_000_000
"""Searches that are answered in one pass over the gallery, about 0.6 GB; never changes results."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """T ordered pairs of A anchors, by anchor and then by positive."""

    anchors: Int64Array
    """(A,) gallery rows, ascending."""
    slot: Int64Array
    """(T,) position of the pair's anchor in `anchors`, ascending."""
    positive: Int64Array
    """(T,) gallery rows."""
    d2_ap: Float32Array
    """(T,) distances."""
    is_suspect: NDArray[np.bool_]
    """(T,) over positive_cap: counted and reported, never mined."""


def choose_anchors(rows: Rows, count: int | None, seed: int, purpose: int = ANCHOR) -> Int64Array:
    """Return (A,) gallery rows with at least one positive, ascending.

    Args:
        rows: the gallery.
        count: how many, those with the smallest hash(seed, purpose, id); None takes all.
        seed: any integer.
        purpose: ANCHOR or RECALL.
    """
    able = np.flatnonzero(rows.last - rows.first > 1)
    if count is not None and count < able.size:
        state = hash_state(seed, purpose, rows.ids[able])
        able = able[np.lexsort((rows.ids[able], state))[:count]]
    return np.sort(able)


def cut_anchors(rows: Rows, anchors: Int64Array, config: MinerConfig) -> Iterator[Int64Array]:
    """Cut the anchors so that the pairs and searches of each part fit into memory.

    Args:
        rows: the gallery.
        anchors: (A,) gallery rows.
        config: how many pairs an anchor has, and negatives a pair.
    """
    num_positives = (rows.last - rows.first)[anchors] - 1
    # With other choices of positives every pair is measured first.
    if config.positives == "random" and config.positives_per_anchor and not config.positive_cap:
        num_positives = np.minimum(num_positives, config.positives_per_anchor)
    searches = np.cumsum((num_positives + 1) * config.negatives_per_pair)
    begin = 0
    while begin < anchors.size:
        before = searches[begin - 1] if begin else 0
        end = int(np.searchsorted(searches, before + MOST_SEARCHES, side="right"))
        end = max(end, begin + 1)
        yield anchors[begin:end]
        begin = end


def pair_up(
    rows: Rows, anchors: Int64Array, config: MinerConfig, seed: int, workers: Workers
) -> Pairs:
    """Pair each anchor with its positives, as `config.positives` says.

    Pairs over positive_cap are set aside first, all of them, and the positives are chosen among
    the rest: a mislabelled face must not take the place of a hardest positive.
    """
    if config.positives == "random" and config.positives_per_anchor and not config.positive_cap:
        return _draw(rows, anchors, config.positives_per_anchor, seed, workers)
    num_positives = rows.last[anchors] - rows.first[anchors] - 1
    slot = np.repeat(np.arange(anchors.size), num_positives)
    begins = np.cumsum(num_positives) - num_positives
    anchor = anchors[slot]
    positive = rows.first[anchor] + np.arange(slot.size) - np.repeat(begins, num_positives)
    positive += positive >= anchor  # an anchor is no positive of its own

    d2_ap = np.empty(slot.size, np.float32)
    workers.each(slot.size, functools.partial(d2_of_pairs, rows.x, anchor, positive, d2_ap))
    is_suspect = np.zeros(slot.size, np.bool_)
    if config.positive_cap is not None:
        is_suspect = d2_ap > np.float32(config.positive_cap)
    elif config.positives_per_anchor is None:
        return Pairs(anchors, slot, positive, d2_ap, is_suspect)
    keep = is_suspect | _is_chosen(rows, slot, positive, anchor, d2_ap, is_suspect, config, seed)
    return Pairs(
        anchors=anchors,
        slot=slot[keep],
        positive=positive[keep],
        d2_ap=d2_ap[keep],
        is_suspect=is_suspect[keep],
    )


def _draw(
    rows: Rows, anchors: Int64Array, positives_per_anchor: int, seed: int, workers: Workers
) -> Pairs:
    """Pair each anchor with its positives of smallest hash; only these are measured.

    An identity of n faces has n (n - 1) pairs: over a large data set they are too many to hold.
    """
    most = int((rows.last - rows.first)[anchors].max(initial=1)) - 1
    chosen = np.full((anchors.size, min(positives_per_anchor, most)), -1, np.int64)
    state = hash_state(seed, POSITIVE, rows.ids[anchors])
    workers.each(anchors.size, functools.partial(choose_by_hash, rows, anchors, state, chosen))
    chosen.sort(axis=1)
    slot, place = np.nonzero(chosen >= 0)
    positive = chosen[slot, place]
    d2_ap = np.empty(slot.size, np.float32)
    workers.each(slot.size, functools.partial(d2_of_pairs, rows.x, anchors[slot], positive, d2_ap))
    return Pairs(anchors, slot, positive, d2_ap, np.zeros(slot.size, np.bool_))


def _is_chosen(
    rows: Rows,
    slot: Int64Array,
    positive: Int64Array,
    anchor: Int64Array,
    d2_ap: Float32Array,
    is_suspect: NDArray[np.bool_],
    config: MinerConfig,
    seed: int,
) -> NDArray[np.bool_]:
    """Return (T,) which pairs are among their anchor's positives_per_anchor first."""
    if config.positives_per_anchor is None:
        return ~is_suspect
    key: NDArray[np.uint64] | Float32Array
    if config.positives == "random":
        key = hash_state(seed, POSITIVE, rows.ids[anchor], rows.ids[positive])
    else:
        key = -d2_ap
    order = np.lexsort((rows.ids[positive], key, is_suspect, slot))
    # Rank within the anchor: the place in the order, counted from the anchor's first place.
    begins = np.searchsorted(slot, slot)
    rank = np.empty(slot.size, np.int64)
    rank[order] = np.arange(slot.size)
    return ~is_suspect & (rank - begins < config.positives_per_anchor)
