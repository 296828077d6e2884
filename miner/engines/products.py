"""The matrix product that filters: float32 rows, taken from their centre.

Distances do not change when all rows are moved alike, and errors grow with the rows' lengths: so
rows are multiplied from their centre. An untrained network puts all faces into a narrow cone; seen
from its middle they are as far apart, next to the errors, as those of a trained one.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from facequarry.miner.core.distance import UNDERFLOW, float32_precision, product_share
from facequarry.miner.core.search import Workers
from facequarry.miner.engines.multiply import Multiply, blas_products, float32_products
from facequarry.miner.kernels.hashed_d2 import norms2_from
from facequarry.miner.kernels.layout import Float32Array, Int64Array, Rows
from facequarry.miner.kernels.tiles import Scale

CHOSEN_FROM = 512
"""Rows from which it is worth trying which library multiplies them faster."""

_SAMPLE = 4096


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
    """How rows of the gallery are multiplied."""

    operand: torch.Tensor
    """(N, D) float32, the rows."""
    centre: torch.Tensor
    """(D,) float32, taken from them first."""
    scale: Scale
    """What a product says about d2."""
    shift: Float32Array
    """(N,) half of |a|^2."""
    norm: NDArray[np.float64]
    """(N,) |a|, taken from the centre."""
    multiply: Multiply
    """Multiplies what is taken of two sides."""

    def take(self, rows: Int64Array) -> torch.Tensor:
        """Return (R, D) what to multiply for some rows."""
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 == rows.size and np.array_equal(rows, np.arange(first, last + 1)):
            taken = self.operand[first : last + 1]
        else:
            taken = self.operand[torch.from_numpy(rows)]
        return taken - self.centre


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
        multiply=multiply,
    )
