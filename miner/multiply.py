"""The processor's matrix products: which library multiplies fastest here, tried out on one tile.

Whatever is chosen cannot show in results: a product only filters, and all that multiply float32
keep within one bound, as all that multiply 8-bit codes are exact.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from miner.distance import product_share

MOST_DIMENSIONS = 66_000
"""Of 8-bit codes, so that sums stay above -2^30, and less two shifts above -2^31."""

_LARGEST_CODE = 127
_TRIED_ROWS, _TRIED_COLUMNS = 256, 512
_TRIALS = 5
_INT8_PAYS_FROM = 1.5
_ONEDNN_PAYS_FROM = 1.1


def float32_products(
    left: torch.Tensor, right: torch.Tensor, room: torch.Tensor
) -> NDArray[np.float32]:
    """Return (R, C) the products of two float32 operands (R, D) and (C, D).

    Args:
        left: the one.
        right: the other.
        room: flat, R * C or more float32; the result may lie in it, or elsewhere.
    """
    if onednn_pays(left.shape[1]):
        return _as_numpy(_by_onednn(left, right))
    tile = _tile(left, right, room)
    torch.mm(left, right.T, out=tile)
    return _as_numpy(tile)


def int8_products(left: torch.Tensor, right: torch.Tensor, room: torch.Tensor) -> NDArray[np.int32]:
    """Return (R, C) the products of two int8 operands in `room`, where `int8_is_exact`."""
    tile = _tile(left, right, room)
    torch._int_mm(left, right.T, out=tile)
    return _as_numpy(tile)


def whole_products(
    left: torch.Tensor, right: torch.Tensor, room: torch.Tensor
) -> NDArray[np.int32]:
    """Return (R, C) the exact products of 8-bit codes, wherever it runs; in `room`, int32."""
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


@functools.cache
def onednn_pays(dimension: int) -> bool:
    """Say whether oneDNN keeps to full float32 here, and is faster than `torch.mm`.

    Both do on Intel's processors; on others, MKL, which is behind `torch.mm`, leaves the widest
    instructions alone. oneDNN may be told from outside to round its inputs, which is seen here.
    What torch itself was told is in `miner.distance.float32_precision`.
    """
    random = torch.Generator().manual_seed(0)
    left = torch.randn(_TRIED_ROWS, dimension, generator=random)
    right = torch.randn(_TRIED_COLUMNS, dimension, generator=random)
    try:
        product = _by_onednn(left, right)
    except (AttributeError, RuntimeError):  # a torch without it, or a processor
        return False
    largest = left.double().norm(dim=1)[:, None] * right.double().norm(dim=1)
    error = (product.double() - left.double() @ right.double().T).abs()
    if (error > 2 * product_share(dimension) * largest).any():
        return False
    tile = torch.empty(_TRIED_ROWS, _TRIED_COLUMNS)
    ours = _seconds(lambda: _by_onednn(left, right))
    return _seconds(lambda: torch.mm(left, right.T, out=tile)) > _ONEDNN_PAYS_FROM * ours


@functools.cache
def int8_is_exact(dimension: int) -> bool:
    """Say whether torch adds up products of 8-bit codes without loss here.

    Without 8-bit dot products some libraries add pairs in 16 bits, and cut off what is too large.
    """
    if not hasattr(torch, "_int_mm") or not 1 < dimension <= MOST_DIMENSIONS:
        return False
    largest = torch.full((512, dimension), _LARGEST_CODE, dtype=torch.int8)
    return bool((torch._int_mm(largest[:256], largest.T) == _LARGEST_CODE**2 * dimension).all())


@functools.cache
def int8_pays(dimension: int) -> bool:
    """Say whether int8 products are exact here, and faster by far on the calling thread."""
    if not int8_is_exact(dimension):
        return False
    left, right = torch.ones(_TRIED_ROWS, dimension), torch.ones(_TRIED_COLUMNS, dimension)
    left8, right8 = left.to(torch.int8), right.to(torch.int8)
    room = torch.empty(_TRIED_ROWS * _TRIED_COLUMNS)
    whole = _seconds(lambda: int8_products(left8, right8, room.view(torch.int32)))
    return _seconds(lambda: float32_products(left, right, room)) > _INT8_PAYS_FROM * whole


def _seconds(work: Callable[[], object]) -> float:
    """Return the least time that a call takes."""
    times = []
    for _ in range(_TRIALS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
