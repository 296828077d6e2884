from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facequarry.miner.selection.tables import Triplets, in_order

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=6)


def served(pairs: list[tuple[int, int]]) -> Triplets:
    """Return rows of these pairs; the negative says which row it was."""
    anchor, positive = np.array(pairs, np.int64).reshape(-1, 2).T
    d2 = np.zeros(len(pairs), np.float32)
    every = np.arange(len(pairs))
    return Triplets(anchor, positive, every, d2, d2, np.zeros(len(pairs), np.int32))


@given(st.lists(pairs, min_size=1, max_size=3), st.permutations(range(4)))
def test_rows_are_ordered_by_ids_and_rank(
    parts: list[list[tuple[int, int]]], ids: list[int]
) -> None:
    found = in_order(np.array(ids), [served(part) for part in parts])
    rows = [(*pair, place) for part in parts for place, pair in enumerate(part)]
    expected = sorted(rows, key=lambda row: (ids[row[0]], ids[row[1]]))  # stable
    assert list(zip(found.anchor, found.positive, found.negative, strict=True)) == expected


@given(pairs)
def test_rows_that_are_in_order_stay(listed: list[tuple[int, int]]) -> None:
    found = in_order(np.arange(4), [served(sorted(listed))])
    assert found.negative.tolist() == list(range(len(listed)))
