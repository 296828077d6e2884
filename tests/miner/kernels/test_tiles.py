from __future__ import annotations

import math

import numpy as np
import pytest

from facequarry.miner.kernels.compiled import kernel
from facequarry.miner.kernels.layout import FARTHEST, NEAREST, make_query, open_searches
from facequarry.miner.kernels.tiles import (
    HIDDEN,
    MOST,
    Limits,
    Scale,
    Side,
    bounds,
    set_limits,
    set_one,
    within_bits,
)

INFINITY = float("inf")


@kernel
def bounds_of(searches, half: float, unit: float) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    return bounds(searches, 0, half, unit)


@kernel
def set_only(limits: Limits, low: float, high: float) -> None:
    set_one(limits, 0, 0, low, high)


@kernel
def bits_of(limit: float) -> np.int32:
    return within_bits(limit)


@pytest.mark.parametrize(
    ("limit", "bits"),
    [
        (0.0, 0),
        (-7.0, -7),
        (2.0**31, MOST),
        (1e300, MOST),
        (INFINITY, MOST),
        (-(2.0**31), -MOST),
        (-INFINITY, -MOST),
    ],
)
def test_limits_beyond_all_measures_are_cut_off(limit: float, bits: int) -> None:
    assert bits_of(limit) == bits > HIDDEN


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [
        (-3.5, 2.5, (-3, 2)),
        (-3.0, 2.0, (-3, 2)),
        (-INFINITY, -0.25, (-MOST, -1)),
        (0.25, 0.75, (1, 0)),  # no whole number lies there
        (1.0, 0.0, (MOST, -MOST)),
    ],
)
def test_an_interval_of_measures_holds_the_whole_numbers_in_it(
    low: float, high: float, inside: tuple[int, int]
) -> None:
    low_high = np.zeros((2, 1, 1), np.int32)
    limits = Limits(low=low_high[0], high=low_high[1], reach=np.zeros(1, np.int32))
    set_only(limits, low, high)
    assert (limits.low[0, 0], limits.high[0, 0]) == inside


@pytest.mark.parametrize(
    ("order", "expected"),
    [(NEAREST, (-(1.5 + 0.25) / 0.5, (0.25 - 0.5) / 0.5)), (FARTHEST, (-INFINITY, -2.5))],
)
def test_a_full_list_admits_what_its_last_entry_leaves(
    order: int, expected: tuple[float, float]
) -> None:
    half, unit = 0.25, 0.5
    most = np.float32(np.inf)
    query = make_query(np.zeros(1, np.int64), np.float32(0.5), most, order=order)
    searches = open_searches([query], 1)
    assert bounds_of(searches, half, unit) == (-INFINITY, (half - 0.5) / unit)
    searches.num[0], searches.d2[0] = 1, 1.5
    assert bounds_of(searches, half, unit) == expected


def test_a_search_whose_limits_cross_admits_nothing() -> None:
    query = make_query(np.zeros(1, np.int64), np.float32(1), np.float32(0.5))
    low, high = bounds_of(open_searches([query], 1), 0.25, 0.5)
    assert low > high and math.isfinite(low)


def test_a_side_that_asks_nothing_reaches_nothing_whatever_was_there_before() -> None:
    query = make_query(np.arange(3), np.float32(0), np.float32(4))
    rows, none = np.arange(3), np.empty(0, np.int64)
    silent = Side(
        row=rows,
        slot=none,
        first=rows,
        last=rows + 1,
        shift=np.zeros(3, np.int32),
        norm=np.ones(3),
        residual=np.zeros(3),
        most_norm=1.0,
        most_residual=0.0,
    )
    scale = Scale(unit=2.0**-20, grain=np.int32(1), error=0.0, share=0.0)
    limits = Limits(*(np.full(shape, -5, np.int32) for shape in ((2, 4), (2, 4), 4)))
    assert set_limits(open_searches([query], 3), silent, silent, scale, limits) == 0
    assert limits.reach.tolist() == [MOST, MOST, MOST, -5]
    asking = silent._replace(slot=rows)
    assert set_limits(open_searches([query], 3), asking, silent, scale, limits) == 1
    assert (limits.reach[:3] < 0).all()
