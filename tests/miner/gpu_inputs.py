"""Searches of every sort over small galleries, and how answers are compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from facequarry.miner.core.search import Workers
from facequarry.miner.engines.exact import ExactSearch
from facequarry.miner.kernels.hashed_d2 import d2_of, d2_of_pairs
from facequarry.miner.kernels.layout import (
    FARTHEST,
    HASH,
    NEAREST,
    Found,
    Int64Array,
    Query,
    Rows,
    make_query,
)
from facequarry.miner.selection.rows import check_rows
from tests.miner.inputs import galleries, separated


@st.composite
def searches(draw: st.DrawFn) -> tuple[Rows, Int64Array, list[Query]]:
    """Draw a gallery full of ties, some anchors in any order, and up to four queries of them."""
    rows = check_rows(*draw(galleries()))
    num_rows = rows.ids.size
    anchors = draw(st.permutations(range(num_rows)))[: draw(st.integers(1, num_rows))]
    queries = [draw(_queries(rows, np.array(anchors))) for _ in range(draw(st.integers(1, 4)))]
    return rows, np.array(anchors), queries


@st.composite
def _queries(draw: st.DrawFn, rows: Rows, anchors: Int64Array) -> Query:
    slots = sorted(draw(st.lists(st.integers(0, anchors.size - 1), max_size=12)))
    slot = np.array(slots, np.int64)
    # Limits on, just above and just below distances that occur.
    edges = st.tuples(st.integers(0, rows.ids.size - 1), st.sampled_from([-np.inf, 0.0, np.inf]))
    limits = []
    for anchor in anchors[slot].tolist():
        ends = []
        for other, towards in (draw(edges), draw(edges)):
            d2 = d2_of(rows.x, anchor, other)
            ends.append(np.nextafter(d2, np.float32(towards)) if towards else d2)
        low, high = ends if draw(st.integers(0, 5)) == 0 else sorted(ends)
        limits.append((max(low, np.float32(0)), np.inf if draw(st.booleans()) else high))
    ends_of = np.array(limits, np.float32).reshape(-1, 2)
    order = draw(st.sampled_from([NEAREST, NEAREST, FARTHEST, HASH]))
    states = draw(st.lists(st.integers(0, 2**64 - 1), min_size=len(slots), max_size=len(slots)))
    return make_query(
        slot,
        ends_of[:, 0],
        ends_of[:, 1],
        state=np.array(states, np.uint64) if order == HASH else None,
        order=order,
        wanted=draw(st.integers(1, 4)),
        distinct=draw(st.booleans()),
        counted=order == NEAREST and draw(st.booleans()),
    )


def usual_queries(
    num_identities: int, faces: int, dimension: int, noise: float
) -> tuple[Rows, Int64Array, list[Query]]:
    """Return a gallery, all rows as anchors, and what mining asks for: bands and the nearest."""
    rows = check_rows(*separated(num_identities, faces, dimension, noise))
    anchors = np.arange(rows.ids.size)
    positive = np.where(rows.last > anchors + 1, anchors + 1, rows.first)
    d2_ap = np.empty(anchors.size, np.float32)
    d2_of_pairs(rows.x, anchors, positive, d2_ap, 0, anchors.size)
    low = np.nextafter(d2_ap, np.float32(np.inf))
    queries = [
        make_query(anchors, low, low + np.float32(0.2)),
        make_query(anchors, np.float32(0), np.float32(np.inf)),
    ]
    return rows, anchors, queries


def answers_of_cpu(rows: Rows, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
    """Return what the CPU's exact engine finds."""
    with Workers(1) as workers:
        return ExactSearch(rows, workers).search(anchors, queries)


def assert_same(
    found: Sequence[Found], expected: Sequence[Found], queries: Sequence[Query]
) -> None:
    """Compare the best lists bit for bit."""
    for ours, theirs, query in zip(found, expected, queries, strict=True):
        assert ours.complete.all()
        listed = np.arange(query.wanted) < theirs.best.num[:, None]
        np.testing.assert_array_equal(ours.best.num, theirs.best.num)
        np.testing.assert_array_equal(ours.best.row[listed], theirs.best.row[listed])
        np.testing.assert_array_equal(ours.best.d2[listed], theirs.best.d2[listed])
        if query.counted:
            np.testing.assert_array_equal(ours.best.total, theirs.best.total)
