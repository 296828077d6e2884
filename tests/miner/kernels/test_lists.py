from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.miner.kernels.compiled import kernel
from facequarry.miner.kernels.layout import Int64Array, Rows, Searches, make_query, open_searches
from facequarry.miner.kernels.lists import offer, offer_only
from facequarry.miner.selection.rows import check_rows
from tests.miner.inputs import on_circle

NUM_ROWS = 12
DISTANCES = [np.float32(value) for value in (0.0, 0.25, 0.5, 1.0)]


@kernel
def offer_to_the_only_place(rows: Rows, searches: Searches, row: int, d2: np.float32) -> bool:
    return bool(offer_only(rows, searches, 0, row, d2))


def one_search() -> Searches:
    query = make_query(np.zeros(1, np.int64), np.float32(0), np.float32(4))
    return open_searches([query], 1)


def rows_called(ids: Int64Array) -> Rows:
    degrees = [10.0 * row for row in range(NUM_ROWS)]
    return check_rows(on_circle(degrees), [row // 2 for row in range(NUM_ROWS)])._replace(ids=ids)


@settings(deadline=None, max_examples=100)
@given(
    offers=st.lists(
        st.tuples(st.integers(0, NUM_ROWS - 1), st.sampled_from(DISTANCES)), max_size=20
    ),
    ids=st.permutations(range(NUM_ROWS)),
)
def test_a_list_of_one_is_kept_as_a_list_of_any_length(
    offers: list[tuple[int, np.float32]], ids: list[int]
) -> None:
    rows = rows_called(np.array(ids, np.int64))
    short, general = one_search(), one_search()
    for row, d2 in offers:
        taken = offer_to_the_only_place(rows, short, row, d2)
        assert taken == offer(rows, general, 0, row, d2)
        assert short.row[0] == general.row[0] and short.d2[0] == general.d2[0]
        assert short.num[0] == general.num[0] == 1
    if offers:
        d2, lowest = min((d2, ids[row]) for row, d2 in offers)
        assert short.d2[0] == d2 and ids[short.row[0]] == lowest
