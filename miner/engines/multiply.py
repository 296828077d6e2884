"""The processor's matrix products, and which of them is the fastest here, tried out on one tile.

Whatever is chosen cannot show in results: a product only filters, all that multiply float32 keep
within one bound (`distance.product_share`), and all that multiply 8-bit codes are exact.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from facequarry.miner.core.distance import float32_precision

Multiply = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], NDArray[Any]]
"""Returns (R, C) the products of two operands (R, D) and (C, D), given room for them: flat, R * C
numbers or more. The result lies there or elsewhere."""

MOST_DIMENSIONS = 66_000
"""Of 8-bit codes, so that sums stay above -2^30, and less two shifts above -2^31."""

LARGEST_CODE = 127
"""Of 8 bits; with -128 as well a row and its opposite would have codes of different size."""

# What is tried: half a tile of the exact engine, some times over.
_TRIED_ROWS, _TRIED_COLUMNS = 256, 512
_TRIALS = 5
# Integers have to make up for what they leave undecided, another library for nothing.
_INT8_PAYS_FROM = 1.5
_ONEDNN_PAYS_FROM = 1.1


def blas_products(
    left: torch.Tensor, right: torch.Tensor, room: torch.Tensor
) -> NDArray[np.float32]:
    """Multiply float32 operands by `torch.mm`."""
    tile = _tile(left, right, room)
    torch.mm(left, right.T, out=tile)
    return _as_numpy(tile)


def onednn_products(
    left: torch.Tensor, right: torch.Tensor, room: torch.Tensor
) -> NDArray[np.float32]:
    """Multiply float32 operands by oneDNN, which brings its own memory."""
    return _as_numpy(_by_onednn(left, right))


def int8_products(left: torch.Tensor, right: torch.Tensor, room: torch.Tensor) -> NDArray[np.int32]:
    """Multiply 8-bit codes where `int8_is_exact`; `room` is of int32."""
    tile = _tile(left, right, room)
    torch._int_mm(left, right.T, out=tile)
    return _as_numpy(tile)


def whole_products(
    left: torch.Tensor, right: torch.Tensor, room: torch.Tensor
) -> NDArray[np.int32]:
    """Multiply 8-bit codes exactly, wherever it runs; `room` is of int32."""
    if int8_is_exact(left.shape[1]):
        return int8_products(left, right, room)
    tile = _tile(left, right, room)
    tile.copy_(left.double() @ right.double().T)
    return _as_numpy(tile)


def _tile(left: torch.Tensor, right: torch.Tensor, room: torch.Tensor) -> torch.Tensor:
    return room[: len(left) * len(right)].view(len(left), len(right))


def _as_numpy(tile: torch.Tensor) -> NDArray[Any]:
    products: NDArray[Any] = tile.numpy()
    return products


def _by_onednn(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return product


def float32_products(dimension: int) -> Multiply:
    """Return what multiplies float32 rows of some dimension fastest on the calling thread."""
    # torch may have been told to leave oneDNN alone, or to round inputs, since the last search.
    may_use = bool(torch.backends.mkldnn.enabled) and float32_precision() == "highest"
    return onednn_products if may_use and onednn_pays(dimension) else blas_products


@functools.cache
def onednn_is_exact(dimension: int) -> bool:
    """Say whether oneDNN is there and keeps all bits of the float32 numbers that it multiplies.

    It can be told from outside to round them. A product of two rows with one number each shows
    that in any dimension; in a sum of many products it would drown.
    """
    place = torch.arange(_TRIED_ROWS) * dimension // _TRIED_ROWS
    random = torch.Generator().manual_seed(0)
    numbers = 1 + torch.rand(_TRIED_ROWS, generator=random, dtype=torch.float32)
    rows = torch.zeros(_TRIED_ROWS, dimension, dtype=torch.float32)
    rows[torch.arange(_TRIED_ROWS), place] = numbers
    products = torch.where(place[:, None] == place, numbers[:, None] * numbers, 0.0)
    try:
        return torch.equal(_by_onednn(rows, rows), products)
    except (AttributeError, RuntimeError):  # a torch without it, or a processor
        return False


@functools.cache
def onednn_pays(dimension: int) -> bool:
    """Say whether oneDNN is exact, and faster than `torch.mm` on the calling thread.

    Behind that is MKL, which uses the widest instructions on Intel's processors only.
    """
    if not onednn_is_exact(dimension):
        return False
    left, right, room = _to_try(dimension)
    onednn = _seconds(lambda: onednn_products(left, right, room))
    return _seconds(lambda: blas_products(left, right, room)) > _ONEDNN_PAYS_FROM * onednn


@functools.cache
def int8_is_exact(dimension: int) -> bool:
    """Say whether torch adds up products of 8-bit codes without loss here.

    Without 8-bit dot products some libraries add pairs in 16 bits, and cut off what is too large.
    """
    if not hasattr(torch, "_int_mm") or not 1 < dimension <= MOST_DIMENSIONS:
        return False
    largest = torch.full((512, dimension), LARGEST_CODE, dtype=torch.int8)
    return bool((torch._int_mm(largest[:256], largest.T) == LARGEST_CODE**2 * dimension).all())


@functools.cache
def int8_pays(dimension: int) -> bool:
    """Say whether int8 products are exact here, and faster by far on the calling thread."""
    if not int8_is_exact(dimension):
        return False
    left, right, room = _to_try(dimension)
    left8, right8 = left.to(torch.int8), right.to(torch.int8)
    int8 = _seconds(lambda: int8_products(left8, right8, room.view(torch.int32)))
    float32 = float32_products(dimension)
    return _seconds(lambda: float32(left, right, room)) > _INT8_PAYS_FROM * int8


def _to_try(dimension: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return two operands and room for their products, whatever torch's default type is."""
    left, right = (
        torch.ones(rows, dimension, dtype=torch.float32) for rows in (_TRIED_ROWS, _TRIED_COLUMNS)
    )
    return left, right, torch.empty(_TRIED_ROWS * _TRIED_COLUMNS, dtype=torch.float32)


def _seconds(work: Callable[[], object]) -> float:
    """Return the least time that a call takes."""
    times = []
    for _ in range(_TRIALS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
