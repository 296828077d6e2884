"""The two Triton kernels of the GPU engine; `gpu.torch_steps` does the same in plain torch.

Neither knows of orders, ties or lists: the first says how near each tile of the gallery comes to
each search, the second measures the tiles that matter by the definition. They run through
Triton's interpreter where `TRITON_INTERPRET=1` is set before Triton is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import torch
import triton
import triton.language as tl

F = TypeVar("F", bound=Callable[..., Any])

ANCHOR_BLOCK = 128
"""Anchors whose products with one tile are in the registers of one program."""

# Rows of up to _WHOLE elements stay in shared memory whole; longer ones pass in steps.
_WHOLE, _STEP = 128, 64


def kernel(function: F) -> F:
    """Compile with Triton; typed as the function, which its stubs do not say."""
    return cast(F, triton.jit(function))


@kernel
def _scan(
    anchors,
    gallery,
    upper,
    first,
    last,
    out,
    group_out,
    num_rows,
    num_tiles,
    num_anchors,
    tiles_per_group,
    width: tl.constexpr,
    depth: tl.constexpr,
    searches: tl.constexpr,
    anchor_block: tl.constexpr,
    tile_rows: tl.constexpr,
) -> None:
    """Write, for each search and tile, the smallest non-negative `upper - product`.

    The products stay in registers. A float that is not negative compares as its bits do, and
    those of a negative one are larger: one subtraction and one unsigned minimum an element and
    search find the largest product that is not above the limit.
    """
    # Programs that run together differ in their anchors and read the same tiles from the L2 cache.
    group = tl.program_id(1)
    rows = tl.program_id(0) * anchor_block + tl.arange(0, anchor_block)
    columns = tl.arange(0, tile_rows)
    elements = tl.arange(0, depth)
    own_first = tl.load(first + rows)
    own_last = tl.load(last + rows)
    least = tl.min(own_first)
    most = tl.max(own_last)
    anchors_at = anchors + rows[:, None] * width + elements[None, :]
    if width == depth:
        anchors_here = tl.load(anchors_at)
    uppers = ()
    nearest = ()
    for j in tl.static_range(searches):
        uppers += (tl.load(upper + j * num_anchors + rows),)
        nearest += (tl.full((anchor_block,), 0xFFFFFFFF, tl.uint32),)
    begin = group * tiles_per_group
    end = tl.minimum(begin + tiles_per_group, num_tiles)
    padded_tiles = tl.num_programs(1) * tiles_per_group
    for tile in range(begin, end):
        column = tile * tile_rows
        gallery_at = gallery + tl.cast(column, tl.int64) * width
        gallery_at = gallery_at + columns[None, :] * width + elements[:, None]
        if width == depth:
            product = tl.dot(anchors_here, tl.load(gallery_at))
        else:
            product = tl.zeros((anchor_block, tile_rows), tl.float32)
            for k in range(0, width, depth):
                product = tl.dot(tl.load(anchors_at + k), tl.load(gallery_at + k), product)
        # Few tiles hold rows of an anchor's own identity, or end behind the last row.
        is_mixed = ((column < most) & (column + tile_rows > least)) | (
            column + tile_rows > num_rows
        )
        if is_mixed:
            row = column + columns[None, :]
            is_out = (row >= own_first[:, None]) & (row < own_last[:, None]) | (row >= num_rows)
            product = tl.where(is_out, float("inf"), product)
        updated = ()
        for j in tl.static_range(searches):
            below = (uppers[j][:, None] - product).to(tl.uint32, bitcast=True)
            value = tl.min(below, axis=1)
            place = tl.cast(j * padded_tiles + tile, tl.int64) * num_anchors
            tl.store(out + place + rows, value.to(tl.float32, bitcast=True))
            updated += (tl.minimum(nearest[j], value),)
        nearest = updated
    for j in tl.static_range(searches):
        place = tl.cast(j * tl.num_programs(1) + group, tl.int64) * num_anchors
        tl.store(group_out + place + rows, nearest[j].to(tl.float32, bitcast=True))


@kernel
def _measure(
    tiles,
    anchors,
    pair_anchor,
    pair_tile,
    first,
    last,
    low,
    high,
    out,
    num_rows,
    width,
    tile_rows: tl.constexpr,
) -> None:
    """Write the defined d2 of one anchor and the rows of one tile: a lane a row, in index order."""
    pair = tl.cast(tl.program_id(0), tl.int64)
    anchor = tl.load(pair_anchor + pair)
    tile = tl.load(pair_tile + pair)
    columns = tl.arange(0, tile_rows)
    anchor_at = anchors + anchor * width
    row_at = tiles + tile * width * tile_rows + columns
    total = tl.zeros((tile_rows,), tl.float64)
    for k in range(width):
        other = tl.load(row_at + k * tile_rows).to(tl.float64)
        difference = tl.load(anchor_at + k).to(tl.float64) - other
        total += difference * difference
    d2 = total.to(tl.float32)
    row = tile * tile_rows + columns
    own_first = tl.load(first + anchor)
    own_last = tl.load(last + anchor)
    is_other = ((row < own_first) | (row >= own_last)) & (row < num_rows)
    is_in = is_other & (d2 >= tl.load(low + pair)) & (d2 <= tl.load(high + pair))
    tl.store(out + pair * tile_rows + columns, tl.where(is_in, d2, float("inf")))


class Shape(NamedTuple):
    """How programs of a scan take rows of one width."""

    depth: int
    """Elements of a row per matrix product."""
    warps: int
    stages: int
    """Loads of gallery rows that are under way."""
    anchor_block: int


def shape_of(width: int) -> Shape:
    """Return the shape for factors of `width`.

    Where the rows are short enough to stay in shared memory whole, two programs share a
    multiprocessor, and one multiplies while the other compares.
    """
    if width <= _WHOLE and width == triton.next_power_of_2(width):
        return Shape(depth=width, warps=4, stages=2, anchor_block=ANCHOR_BLOCK)
    return Shape(depth=math.gcd(width, _STEP), warps=8, stages=3, anchor_block=ANCHOR_BLOCK)


def depth_of(width: int) -> int:
    """Return what the rows of factors must be padded to a multiple of."""
    return _STEP if width > _WHOLE else max(16, triton.next_power_of_2(width))


def scan(
    anchors: torch.Tensor,
    gallery: torch.Tensor,
    upper: torch.Tensor,
    first: torch.Tensor,
    last: torch.Tensor,
    num_rows: int,
    tile_rows: int,
    tiles_per_group: int,
    *,
    shape: Shape | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what `miner.gpu_torch.scan` does, for whole blocks of anchors; `shape` is for timing."""
    num_anchors, width = anchors.shape
    searches, num_tiles = len(upper), len(gallery) // tile_rows
    num_groups = -(-num_tiles // tiles_per_group)
    shape = shape or shape_of(width)
    out = torch.empty((searches, num_groups * tiles_per_group, num_anchors), device=anchors.device)
    groups = torch.empty((searches, num_groups, num_anchors), device=anchors.device)
    launch: Any = _scan
    launch[(num_anchors // shape.anchor_block, num_groups)](
        anchors,
        gallery,
        upper,
        first,
        last,
        out,
        groups,
        num_rows,
        num_tiles,
        num_anchors,
        tiles_per_group,
        width=width,
        depth=shape.depth,
        searches=searches,
        anchor_block=shape.anchor_block,
        tile_rows=tile_rows,
        num_warps=shape.warps,
        num_stages=shape.stages,
        enable_fp_fusion=False,
    )
    return out, groups


def measure(
    tiles: torch.Tensor,
    anchors: torch.Tensor,
    pair_anchor: torch.Tensor,
    pair_tile: torch.Tensor,
    first: torch.Tensor,
    last: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
    num_rows: int,
) -> torch.Tensor:
    """Do what `miner.gpu_torch.measure` does."""
    width, tile_rows = tiles.shape[1:]
    out = torch.empty((len(pair_tile), tile_rows), device=tiles.device)
    launch: Any = _measure
    # A fused multiply-add would round once where the definition rounds twice.
    launch[(len(pair_tile),)](
        tiles,
        anchors,
        pair_anchor,
        pair_tile,
        first,
        last,
        low,
        high,
        out,
        num_rows,
        width,
        tile_rows=tile_rows,
        num_warps=max(1, tile_rows // 32),
        enable_fp_fusion=False,
    )
    return out
