"""Matrix products that filter: integers where the processor multiplies them fast, else float32.

An int8 product is an exact sum of integers, the same in any order and on any processor. What is
inexact is only the rounding of the rows beforehand, and that is measured row by row. It runs four
to eight times as fast as a float32 product on processors with 8-bit dot products (AVX-512 VNNI),
but leaves a distance uncertain by some hundredths, where float32 leaves it by some hundred
thousandths; so whoever decides much from one tile takes float32 for it.

Distances do not change when all rows are moved alike, and errors grow with the rows' lengths: so
both products take the rows from their centre. An untrained network puts all faces into a narrow
cone; seen from its middle they are as far apart, next to the errors, as those of a trained one.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facequarry.miner.core.distance import UNDERFLOW, code_share, float32_precision, product_share
from facequarry.miner.core.search import Workers
from facequarry.miner.engines.multiply import (
    LARGEST_CODE,
    Multiply,
    blas_products,
    float32_products,
    int8_products,
)
from facequarry.miner.kernels.hashed_d2 import norms2_from, quantise
from facequarry.miner.kernels.layout import Float32Array, Int64Array, Rows
from facequarry.miner.kernels.tiles import Scale

CHOSEN_FROM = 512
"""Rows from which it is worth trying which library multiplies them faster."""

_SAMPLE = 4096
_STEP_SAMPLE = 512
_CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


@dataclass(frozen=True, slots=True)
class Centre:
    """The middle of a gallery."""

    x: Float32Array
    """(D,) about the mean of the rows; any point would do."""
    norms2: NDArray[np.float64]
    """(N,) squared lengths of the rows taken from there."""


def take_centre(rows: Rows, workers: Workers) -> Centre:
    """Return the mean of a sample of rows, and how far all are from it."""
    sample = rows.x[:: max(1, len(rows.x) // _SAMPLE)]
    centre = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    norms2 = np.empty(len(rows.x))
    workers.each(len(rows.x), functools.partial(norms2_from, rows.x, centre, norms2))
    return Centre(centre, norms2)


@dataclass(frozen=True, slots=True)
class Product:
    """One way to multiply rows of the gallery."""

    operand: torch.Tensor
    """(N, D) what is multiplied: the rows themselves, or their codes."""
    centre: torch.Tensor | None
    """(D,) float32, what must be taken from the operand first; None where it has been."""
    scale: Scale
    """What a product says about d2."""
    shift: NDArray[Any]
    """(N,) half of |a|^2 as the products have it, in their own type."""
    norm: NDArray[np.float64]
    """(N,) |a|, taken from the centre."""
    residual: NDArray[np.float64] | None
    """(N,) how far each row is from its code; None where the rows themselves are multiplied."""
    dtype: torch.dtype
    """Of the products."""
    multiply: Multiply
    """Multiplies what is taken of two sides."""

    def take(self, rows: Int64Array) -> torch.Tensor:
        """Return (R, D) what to multiply for some rows."""
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 == rows.size and np.array_equal(rows, np.arange(first, last + 1)):
            taken = self.operand[first : last + 1]
        else:
            taken = self.operand[torch.from_numpy(rows)]
        return taken if self.centre is None else taken - self.centre


def float32_product(rows: Rows, centre: Centre, workers: Workers) -> Product:
    """Return the product whose error is proven in `distance.product_share`."""
    dimension = rows.x.shape[1]
    multiply: Multiply = blas_products
    if len(rows.x) >= CHOSEN_FROM:
        [multiply] = workers.all([functools.partial(float32_products, dimension)])
    largest_norm2 = float(centre.norms2.max())
    # Measures are at most 2 R^2 times the grain: a power of two that leaves them below 2^29. All
    # rows may be the same, hence the least R^2.
    grain = 2.0 ** (29 - math.frexp(max(2 * largest_norm2, 2.0**-60))[1])
    unit = 2 / grain
    return Product(
        operand=torch.from_numpy(rows.x),
        centre=torch.from_numpy(centre.x),
        scale=Scale(
            unit=unit,
            grain=np.float32(grain),
            error=unit + UNDERFLOW,
            share=product_share(dimension, float32_precision()),
        ),
        shift=(centre.norms2 / 2).astype(np.float32),
        norm=np.sqrt(centre.norms2),
        residual=None,
        dtype=torch.float32,
        multiply=multiply,
    )


def int8_product(rows: Rows, centre: Centre, workers: Workers) -> Product:
    """Round the rows to 8 bits; the error is proven in `distance.code_share`."""
    # A row unlike the sample must not lead out of 32 bits: shifts of two add up to R^2 / step^2,
    # which is 2^30 at most.
    step = max(_step(rows.x, centre.x), float(np.sqrt(centre.norms2.max())) * 2.0**-15)
    codes = np.empty(rows.x.shape, np.int8)
    residual = np.empty(len(rows.x))
    workers.each(len(rows.x), functools.partial(quantise, rows.x, centre.x, step, codes, residual))
    # The distance to the code is itself a float64 sum.
    residual *= 1 + 1e-6
    unit = 2 * step * step
    return Product(
        operand=torch.from_numpy(codes),
        centre=None,
        scale=Scale(unit=unit, grain=np.int32(1), error=unit + UNDERFLOW, share=code_share()),
        shift=np.rint(centre.norms2 / unit).astype(np.int32),
        norm=np.sqrt(centre.norms2),
        residual=residual,
        dtype=torch.int32,
        multiply=int8_products,
    )


def _step(x: Float32Array, centre: Float32Array) -> float:
    """Return the distance between codes that loses least, on a sample of rows.

    Cutting off the few largest components makes all the others finer.
    """
    sample = x[:: max(1, len(x) // _STEP_SAMPLE)].astype(np.float64) - centre
    largest = float(np.abs(sample).max()) or 1.0  # all rows are the same

    def loss(step: float) -> float:
        codes = np.clip(np.rint(sample / step), -LARGEST_CODE, LARGEST_CODE)
        return float(np.sqrt(((sample - step * codes) ** 2).sum(axis=1)).mean())

    return min((clip * largest / LARGEST_CODE for clip in _CLIPS), key=loss)
