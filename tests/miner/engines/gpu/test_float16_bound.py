from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facequarry.miner.engines.gpu.device_lists import fold
from facequarry.miner.engines.gpu.float16_bound import LEVELS, distance_error, split
from facequarry.miner.kernels.hashed_d2 import d2_of, fold_each
from facequarry.miner.selection.rows import check_rows
from tests.miner.inputs import separated

FloatArray = NDArray[np.float64]


def gallery(dimension: int, kind: str) -> NDArray[np.float32]:
    random = np.random.default_rng(0)
    x, _ = separated(15, 4, dimension, 0.001 if kind == "collapsed" else 1.0)
    if kind == "lengths":
        x *= random.uniform(0.9991, 1.0009, (len(x), 1)).astype(np.float32)
    if kind == "tiny elements":
        x *= np.float32(2) ** random.integers(-30, 0, x.shape).astype(np.float32)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def exact_sums(left: FloatArray, right: FloatArray) -> FloatArray:
    return left @ right.T


def sums_cut_off(left: FloatArray, right: FloatArray) -> FloatArray:
    """Add four products and the sum so far, aligned to the largest and cut to 24 bits."""
    total = np.zeros((len(left), len(right)))
    for begin in range(0, left.shape[1], 4):
        terms = left[:, None, begin : begin + 4] * right[None, :, begin : begin + 4]
        terms = np.concatenate([terms, total[:, :, None]], axis=2)
        largest = np.abs(terms).max(axis=2, keepdims=True)
        unit = np.exp2(np.floor(np.log2(np.maximum(largest, 2.0**-100))) - 23)
        total = (np.trunc(terms / unit) * unit).sum(axis=2)
        # The sum itself is cut off to the 24 bits of a float32.
        unit = np.exp2(np.floor(np.log2(np.maximum(np.abs(total), 2.0**-100))) - 23)
        total = np.trunc(total / unit) * unit
    return total


@pytest.mark.parametrize("sums", [exact_sums, sums_cut_off])
@pytest.mark.parametrize("kind", ["usual", "collapsed", "lengths", "tiny elements"])
@pytest.mark.parametrize("dimension", [2, 100, 128])
@pytest.mark.parametrize("level", LEVELS)
def test_distances_stay_within_their_bound(
    level: int, dimension: int, kind: str, sums: object
) -> None:
    x = gallery(dimension, kind)
    rows = check_rows(x, np.arange(60) // 4)
    anchors = split(torch.from_numpy(rows.x), level, 128, is_gallery=False)
    others = split(torch.from_numpy(rows.x), level, 128, is_gallery=True)
    least, most = rows.norms2.min(), rows.norms2.max()
    product = sums(anchors.halves.double().numpy(), others.halves.double().numpy())  # type: ignore[operator]
    distance = rows.norms2[:, None] + (least + most) / 2 - 2 * product
    defined = np.array([[d2_of(rows.x, i, j) for j in range(60)] for i in range(60)], np.float64)
    bound = distance_error(anchors, others, most, most - least).numpy()
    assert np.all(np.abs(distance - defined) <= bound[:, None])


def test_three_products_bound_more_tightly_than_one() -> None:
    x = torch.from_numpy(gallery(128, "usual"))
    bounds = [
        distance_error(
            split(x, level, 128, is_gallery=False), split(x, level, 128, is_gallery=True), 1.0, 0.0
        ).max()
        for level in LEVELS
    ]
    assert 1e-4 < bounds[0] < 2e-3
    assert 1e-5 < bounds[1] < bounds[0] / 4


def test_hashes_are_those_of_the_compiled_kernels() -> None:
    random = np.random.default_rng(0)
    state = random.integers(0, 2**64, 1000, np.uint64, endpoint=False)
    value = random.integers(0, 2**63 - 1, 1000)
    folded = fold(torch.from_numpy(state.view(np.int64)), torch.from_numpy(value))
    compiled = np.empty_like(state)
    fold_each(state, value, compiled)
    np.testing.assert_array_equal(folded.numpy().view(np.uint64), compiled)
