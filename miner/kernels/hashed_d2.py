"""The seeded hash, the defined distance, and rows rounded to 8 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facequarry.miner.kernels.compiled import kernel, reassociating_kernel
from facequarry.miner.kernels.layout import Float32Array, Int64Array

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@kernel
def mix(z: np.uint64) -> np.uint64:
    """Return the splitmix64 finaliser of `z`, a bijection on 64-bit integers."""
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@kernel
def fold(state: np.uint64, value: np.uint64) -> np.uint64:
    """Take one integer into a hash state; for one state no two values collide."""
    return mix(state + _GOLDEN * (value + np.uint64(1)))


@kernel
def fold_each(state: NDArray[np.uint64], values: Int64Array, out: NDArray[np.uint64]) -> None:
    """Fill `out` (T,) with `fold(state[i], values[i])`."""
    for i in range(values.size):
        out[i] = fold(state[i], np.uint64(values[i]))


@kernel
def d2_in_order(x: Float32Array, i: int, j: int) -> np.float32:
    """Return the defined d2 of rows i and j, by the definition itself."""
    total = 0.0
    for k in range(x.shape[1]):
        difference = np.float64(x[i, k]) - np.float64(x[j, k])
        total += difference * difference
    return np.float32(total)


@reassociating_kernel
def _d2_in_any_order(x: Float32Array, i: int, j: int) -> float:
    total = 0.0
    for k in range(x.shape[1]):
        difference = np.float64(x[i, k]) - np.float64(x[j, k])
        total += difference * difference
    return total


@kernel
def d2_of(x: Float32Array, i: int, j: int) -> np.float32:
    """Return the defined d2 of rows i and j, by the fast way wherever that is proven equal.

    Two float64 sums of the same D non-negative terms, in any order and with or without fused
    multiply-add, differ by less than (2 D + 4) 2^-53 of their value. When everything that near
    rounds to one float32, the order does not matter; otherwise the definition is followed.
    """
    total = _d2_in_any_order(x, i, j)
    slack = total * (4.0 * x.shape[1] + 16.0) * 2.0**-53
    low = np.float32(total - slack)
    if low == np.float32(total + slack):
        return low
    return d2_in_order(x, i, j)


@kernel
def d2_of_pairs(
    x: Float32Array, rows: Int64Array, others: Int64Array, out: Float32Array, begin: int, end: int
) -> None:
    """Fill `out[begin:end]` with the defined d2 of `rows[i]` and `others[i]`."""
    for i in range(begin, end):
        out[i] = d2_of(x, rows[i], others[i])


@kernel
def d2_of_candidates(
    x: Float32Array,
    anchors: Int64Array,
    candidates: Int64Array,
    out: Float32Array,
    begin: int,
    end: int,
) -> None:
    """Fill `out` (A, K) with the defined d2 of each anchor and its candidates; skip row -1."""
    for a in range(begin, end):
        for k in range(candidates.shape[1]):
            if candidates[a, k] >= 0:
                out[a, k] = d2_of(x, anchors[a], candidates[a, k])


@reassociating_kernel
def norms2_from(
    x: Float32Array, centre: Float32Array, out: NDArray[np.float64], begin: int, end: int
) -> None:
    """Fill `out[begin:end]` with the squared norms of the rows taken from the centre.

    Added up in any order: they only bound what filters.
    """
    for i in range(begin, end):
        total = 0.0
        for k in range(x.shape[1]):
            value = np.float64(x[i, k]) - np.float64(centre[k])
            total += value * value
        out[i] = total


@kernel
def quantise(
    x: Float32Array,
    centre: Float32Array,
    step: float,
    codes: NDArray[np.int8],
    residual: NDArray[np.float64],
    begin: int,
    end: int,
) -> None:
    """Round rows `begin:end`, taken from the centre, to multiples of `step`.

    And note how far each is from its code.
    """
    for i in range(begin, end):
        total = 0.0
        for k in range(x.shape[1]):
            value = np.float64(x[i, k]) - np.float64(centre[k])
            code = max(-127.0, min(127.0, np.rint(value / step)))
            codes[i, k] = np.int8(code)
            rest = value - step * code
            total += rest * rest
        residual[i] = np.sqrt(total)
