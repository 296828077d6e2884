from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.miner.core.distance import band, edge, index_error, product_share
from facequarry.miner.core.hashing import hash_state
from facequarry.miner.kernels.hashed_d2 import d2_in_order, d2_of
from tests.miner.inputs import separated
from tests.miner.oracle import defined_d2, seeded_hash


@pytest.mark.parametrize("dimension", [1, 2, 3, 7, 64, 128, 513])
def test_both_ways_to_d2_follow_the_definition(dimension: int) -> None:
    x, _ = separated(6, 5, dimension, 0.5)
    for i in range(10):
        for j in range(30):
            expected = defined_d2(x[i], x[j])
            assert d2_of(x, i, j) == d2_in_order(x, i, j) == expected
            assert d2_of(x, j, i) == expected


def test_d2_follows_the_definition_where_a_sum_lies_between_two_floats() -> None:
    # 1 + 2^-24 is half way between two float32 values: the order of a sum could decide.
    a = np.array([1, 2.0**-12, 2.0**-27, 2.0**-27, 2.0**-27], np.float32)
    x = np.stack([a, np.zeros_like(a)])
    assert d2_of(x, 0, 1) == defined_d2(x[0], x[1])
    for seed in range(50):
        x[0] = np.random.default_rng(seed).permutation(a)
        assert d2_of(x, 0, 1) == defined_d2(x[0], x[1])


def test_share_grows_with_what_torch_may_round() -> None:
    bounds = [product_share(128, word) for word in ("highest", "high", "medium")]
    assert 1e-6 < bounds[0] < 1e-4 < bounds[1] < bounds[2] < 0.1
    assert index_error(128, 1.0) > 4 * bounds[0]  # (|a| + |b|)^2 = 4


@given(
    d2_ap=st.floats(0, 4, width=32),
    margin=st.floats(1e-7, 3.999),
    floor=st.none() | st.floats(1e-6, 3.999),
    d2_an=st.floats(0, 4, width=32),
)
def test_closed_band_holds_what_the_open_band_holds(
    d2_ap: float, margin: float, floor: float | None, d2_an: float
) -> None:
    ap, an = np.float32(d2_ap), np.float32(d2_an)
    low, high = band(np.array([ap]), margin, floor)
    expected = ap < an < np.float32(float(ap) + margin) and (
        floor is None or an >= np.float32(floor)
    )
    assert bool(low[0] <= an <= high[0]) == expected
    upper = edge(np.array([ap]), margin)[0]
    assert upper == np.float32(float(ap) + margin)
    assert not low[0] <= upper <= high[0]


@settings(deadline=None)
@given(
    seed=st.integers(-(2**80), 2**80),
    values=st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), min_size=1),
)
def test_hash_is_folded_splitmix64(seed: int, values: list[tuple[int, int]]) -> None:
    columns = np.array(values, np.int64)
    found = hash_state(seed, 2, columns[:, 0], columns[:, 1])
    assert found.tolist() == [seeded_hash(seed, 2, *pair) for pair in values]
