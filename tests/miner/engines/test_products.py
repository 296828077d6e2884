from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.miner.core.search import Workers
from facequarry.miner.engines.multiply import blas_products, onednn_is_exact, onednn_products
from facequarry.miner.engines.products import Product, float32_product, int8_product, take_centre
from facequarry.miner.kernels.hashed_d2 import d2_of
from facequarry.miner.kernels.layout import Rows
from facequarry.miner.kernels.tiles import Scale, measure
from facequarry.miner.selection.rows import check_rows
from tests.miner.inputs import on_circle, separated


def all_ways(rows: Rows) -> list[Product]:
    """Return the products that there are here, that of 8-bit codes last."""
    with Workers(1) as workers:
        centre = take_centre(rows, workers)
        float32, int8 = float32_product(rows, centre, workers), int8_product(rows, centre, workers)
    ways = [replace(float32, multiply=blas_products), int8]
    if onednn_is_exact(rows.x.shape[1]):
        ways.insert(0, replace(float32, multiply=onednn_products))
    return ways


def norms2_of(rows: Rows) -> Any:
    with Workers(1) as workers:
        return take_centre(rows, workers).norms2


def defined(rows: Rows) -> Any:
    every = range(len(rows.x))
    return np.array([[d2_of(rows.x, i, j) for j in every] for i in every], np.float64)


def distances(rows: Rows, product: Product) -> tuple[Any, Any]:
    """Return what the products say of d2, and how far they may be off."""
    every = np.arange(len(rows.x))
    operand = product.take(every)
    room = torch.empty(every.size**2, dtype=product.dtype)
    scale, measures = product.scale, np.empty((every.size, every.size), np.int32)
    products = product.multiply(operand, operand, room)
    for row in every:
        shift = product.shift
        measure(products[row], shift[row], shift, scale.grain, measures[row])
    about = -scale.unit * measures.astype(np.float64)
    norm = np.sqrt(norms2_of(rows))
    residual = np.zeros_like(norm) if product.residual is None else product.residual
    return about, bound(scale, norm, residual)


def bound(scale: Scale, norm: Any, residual: Any) -> Any:
    """Return how far the distance of each two rows may be off, as `Scale` says."""
    crossed = (norm + residual)[:, None] * residual + residual[:, None] * norm
    return scale.error + scale.share * (norm[:, None] + norm) ** 2 + 2 * crossed


@settings(deadline=None, max_examples=60)
@given(
    dimension=st.sampled_from([2, 3, 17, 128, 512]),
    noise=st.sampled_from([1e-4, 0.05, 1.0, 10.0]),
    middle=st.sampled_from([0.0, 1.0, 50.0]),
    length=st.sampled_from([0.9991, 1.0, 1.0009]),
    spike=st.booleans(),
    seed=st.integers(0, 5),
)
def test_products_stay_within_their_bounds(
    dimension: int, noise: float, middle: float, length: float, spike: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    x = middle + noise * random.normal(size=(24, dimension))
    if spike:  # one row unlike all others, whose code is cut off
        x[0] = 0
        x[0, 0] = 1
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x *= random.uniform(min(1, length), max(1, length), (24, 1))
    rows = check_rows(x.astype(np.float32), np.repeat(np.arange(12), 2))
    for product in all_ways(rows):
        about, off = distances(rows, product)
        assert np.all(np.abs(about - defined(rows)) <= off)


@pytest.mark.parametrize("spread", [0.0, 1e-12])
def test_rows_that_are_nearly_the_same_stay_within_their_bounds(spread: float) -> None:
    x = np.tile(on_circle([30]), (12, 1)).astype(np.float64)
    x[::3, 1] += spread
    x = x.astype(np.float32)
    x[::3, 0] = np.nextafter(x[::3, 0], np.float32(1)) if spread else x[::3, 0]
    rows = check_rows(x, np.repeat(np.arange(6), 2))
    for product in all_ways(rows):
        about, off = distances(rows, product)
        assert np.all(np.abs(about - defined(rows)) <= off)


def test_the_centre_makes_a_narrow_cone_as_sharp_as_a_sphere() -> None:
    wide = check_rows(*separated(10, 4, 64, 1.0))
    x = np.ones((1, 64)) + 0.01 * wide.x
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    narrow = check_rows(x.astype(np.float32), np.repeat(np.arange(10), 4))
    for product_wide, product_narrow in zip(all_ways(wide), all_ways(narrow), strict=True):
        relative = [
            (distances(rows, product)[1] / defined(rows).max()).mean()
            for rows, product in ((wide, product_wide), (narrow, product_narrow))
        ]
        assert relative[1] < 2 * relative[0]


def test_a_row_unlike_the_sample_stays_within_32_bits() -> None:
    random = np.random.default_rng(0)
    x = np.ones((2000, 16)) + 1e-6 * random.normal(size=(2000, 16))
    x[1001] = -1  # the sample takes every third row
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rows = check_rows(x.astype(np.float32), np.repeat(np.arange(1000), 2))
    product = all_ways(rows)[-1]
    scale, shift = product.scale, product.shift
    assert int(shift.max()) + int(np.sort(shift)[-2]) <= 2**30
    some = np.array([0, 1, 1000, 1001, 1999])
    few = Rows(*(column[some] for column in rows))
    operand, room = product.take(some), torch.empty(some.size**2, dtype=torch.int32)
    products, measures = product.multiply(operand, operand, room), np.empty((5, 5), np.int32)
    for row, own in enumerate(shift[some]):
        measure(products[row], own, shift[some], scale.grain, measures[row])
    about = -scale.unit * measures.astype(np.float64)
    assert product.residual is not None
    norm, residual = np.sqrt(norms2_of(rows)[some]), product.residual[some]
    assert np.all(np.abs(about - defined(few)) <= bound(scale, norm, residual))
