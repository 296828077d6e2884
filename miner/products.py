"""Matrix products that filter: integers where the processor multiplies them fast, else float32.

An int8 product is an exact sum of integers, the same in any order and on any processor. What is
inexact is only the rounding of the rows beforehand, and that is measured row by row. It runs about
seven times as fast as a float32 product on processors with 8-bit dot products (AVX-512 VNNI, AMX),
but leaves a distance uncertain by some hundredths, where float32 leaves it by some hundred
thousandths; so whoever decides much from one tile takes float32 for it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from miner.distance import code_error, float32_precision, product_error
from miner.kernels.distance import quantise
from miner.kernels.tiles import Scale
from miner.layout import Float32Array, Int64Array, Rows
from miner.search import Workers

_SAMPLE = 4096
_LARGEST_CODE = 127
_CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_TRIALS = 5
_PAYS_FROM = 1.5


@dataclass(frozen=True, slots=True)
class Product:
    """One way to multiply rows of the gallery."""

    operand: torch.Tensor
    """(N, D) what is multiplied: the rows themselves, or their codes."""
    scale: Scale
    """What a product says about d2."""
    dtype: torch.dtype
    """Of the products."""

    def take(self, rows: Int64Array) -> torch.Tensor:
        """Return (R, D) the operand of some rows: a view where they follow on each other."""
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 == rows.size and np.array_equal(rows, np.arange(first, last + 1)):
            return self.operand[first : last + 1]
        return self.operand[torch.from_numpy(rows)]

    def multiply(
        self, left: torch.Tensor, right: torch.Tensor, room: torch.Tensor
    ) -> NDArray[np.generic]:
        """Return (R, C) the products of two operands, in `room`, which is flat and large enough."""
        tile = room[: len(left) * len(right)].view(len(left), len(right))
        if self.scale.is_whole:
            torch._int_mm(left, right.T, out=tile)
        else:
            torch.mm(left, right.T, out=tile)
        products: NDArray[np.generic] = tile.numpy()
        return products


def float32_product(rows: Rows) -> Product:
    """Return the product whose error is proven in `miner.distance.product_error`."""
    error = product_error(rows.x.shape[1], float(rows.norms2.max()), float32_precision())
    return Product(
        operand=torch.from_numpy(rows.x),
        scale=Scale(unit=2.0, error=error, residual=np.empty(0), is_whole=False),
        dtype=torch.float32,
    )


def int8_product(rows: Rows, workers: Workers) -> Product:
    """Round the rows to 8 bits; the error is proven in `miner.distance.code_error`."""
    step = _step(rows.x)
    codes = np.empty(rows.x.shape, np.int8)
    residual = np.empty(len(rows.x))
    workers.each(
        len(rows.x), lambda begin, end: quantise(rows.x, step, codes, residual, begin, end)
    )
    # The distance to the code is itself a float64 sum.
    residual = residual * (1 + 1e-6) + 1e-12
    return Product(
        operand=torch.from_numpy(codes),
        scale=Scale(
            unit=2 * step * step,
            error=code_error(float(rows.norms2.max())),
            residual=residual,
            is_whole=True,
        ),
        dtype=torch.int32,
    )


def _step(x: Float32Array) -> float:
    """Return the distance between codes that loses least, on a sample of rows.

    Cutting off the few largest components makes all the others finer.
    """
    sample = x[:: max(1, len(x) // _SAMPLE)].astype(np.float64)
    largest = float(np.abs(sample).max())

    def loss(step: float) -> float:
        codes = np.clip(np.rint(sample / step), -_LARGEST_CODE, _LARGEST_CODE)
        return float(np.sqrt(((sample - step * codes) ** 2).sum(axis=1)).mean())

    return min((clip * largest / _LARGEST_CODE for clip in _CLIPS), key=loss)


@functools.cache
def int8_pays(dimension: int) -> bool:
    """Measure on one tile whether int8 products are faster by far, on the calling thread.

    What is chosen cannot show in results: either product only filters.
    """
    if not hasattr(torch, "_int_mm"):
        return False
    left, right = torch.ones(256, dimension), torch.ones(512, dimension)
    left8, right8 = left.to(torch.int8), right.to(torch.int8)
    tile, tile8 = torch.empty(256, 512), torch.empty(256, 512, dtype=torch.int32)

    def seconds(work: Callable[[], object]) -> float:
        times = []
        for _ in range(_TRIALS):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return min(times)

    whole = seconds(lambda: torch._int_mm(left8, right8.T, out=tile8))
    return seconds(lambda: torch.mm(left, right.T, out=tile)) > _PAYS_FROM * whole
