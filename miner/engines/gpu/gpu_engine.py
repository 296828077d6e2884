"""The exact engine on a GPU: every negative of every anchor is looked at, results are the CPU's.

    gallery in float16 ─► scan: product and limits in one kernel ─► tiles that could matter
                          ─► measure: the defined d2 of those tiles ─► lists

It needs torch, Triton and NumPy only, and without Triton torch alone. `docs/appendix-scale.md`
derives the bound and counts the operations. Time it where there is a GPU:

    python -m benchmarks.gpu
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch

from facequarry.datasets.disk.errors import BadInput
from facequarry.miner.config import MinerConfig
from facequarry.miner.core.memory import OutOfMemory
from facequarry.miner.engines.gpu import torch_steps as gpu_torch
from facequarry.miner.engines.gpu.candidates import Candidates, Cells, window
from facequarry.miner.engines.gpu.device_gallery import Band, Gallery, GalleryBlock
from facequarry.miner.engines.gpu.device_lists import DeviceLists, Names
from facequarry.miner.engines.gpu.float16_bound import LEVELS, distance_error
from facequarry.miner.kernels.layout import Found, Int64Array, Query, Report, Rows


class TileSteps(NamedTuple):
    """What touches every row: the functions of `gpu.triton_kernels` or of `gpu.torch_steps`."""

    anchor_block: int
    depth_of: Callable[[int], int]
    scan: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    measure: Callable[..., torch.Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How the work is cut; never changes results."""

    tile_rows: int = 128
    """Gallery rows of which only the nearest is told apart by a scan."""

    tiles_per_group: int = 64
    """Tiles that one program of a scan goes through."""

    searches: int = 4
    """Most searches of one anchor that one scan answers."""

    pairs: int = 1 << 18
    """Searches and tiles measured at a time."""

    block_rows: int | None = None
    """Gallery rows on the device at a time; None takes all where they fit, else what fits."""

    band_anchors: int | None = None
    """Anchors searched together; None takes what fits."""

    measured_share: float = 1 / 32
    """Largest share of all tiles that is measured before a finer product is tried."""


DEFAULT_SIZES = Sizes()

# Shares of the device's memory; the rest is for the steps' own tensors.
_GALLERY_SHARE = 0.5
_BAND_SHARE = 0.2
_GIB = 1 << 30


class GpuSearch:
    """Searches the whole gallery on a GPU; every answer is complete and the CPU engine's.

    Args:
        rows: the gallery.
        device: such as "cuda" or "cuda:1"; "cpu" is for tests.
        memory_gib: device memory to plan for; None takes what is free.
        sizes: how the work is cut.
        steps: the kernels; None takes Triton's on a GPU where it is installed, else torch's.
    """

    def __init__(
        self,
        rows: Rows,
        device: str = "cuda",
        *,
        memory_gib: float | None = None,
        sizes: Sizes = DEFAULT_SIZES,
        steps: TileSteps | None = None,
    ) -> None:
        self._rows = rows
        self._device = torch.device(device)
        self._sizes = sizes
        if steps is None:
            can_compile = self._device.type == "cuda" and find_spec("triton") is not None
            steps = triton_steps() if can_compile else torch_steps()
        self._steps = steps
        depth = self._steps.depth_of(rows.x.shape[1])
        self._width = -(-rows.x.shape[1] // depth) * depth
        least, most = float(rows.norms2.min()), float(rows.norms2.max())
        self._largest_norm2, self._spread = most, most - least
        self._centre = (least + most) / 2
        with _explaining_memory(self._device):
            self._bytes = _plan_bytes(self._device, memory_gib)
            self._names = Names(rows.ids, rows.first, self._device)
            self._gallery = Gallery(
                rows, self._device, self._block_rows(), sizes.tile_rows, self._width
            )

    def report(self) -> Report:
        """Say what it is."""
        return Report(engine="exact")

    def search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        """Answer queries about one band of anchors (see `miner.search.Search`).

        Raises:
            OutOfMemory: the device has too little; the sentence says what to set.
        """
        with _explaining_memory(self._device):
            return self._search(anchors, queries)

    def _search(self, anchors: Int64Array, queries: Sequence[Query]) -> list[Found]:
        # In the gallery's order the anchors of a block share their own identities' rows.
        order = np.argsort(anchors, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        rows = anchors[order]
        lists = [DeviceLists(query, self._names) for query in queries]
        asked = [
            _Asked(query, place, best, self._device)
            for query, best in zip(queries, lists, strict=True)
        ]
        levels = [0] * len(asked)
        searches = sum(int(np.bincount(query.slot).max(initial=0)) for query in queries)
        for block in self._gallery:
            step = self._band_anchors(block, min(searches, self._sizes.searches))
            for begin in range(0, rows.size, step):
                band = self._band(rows[begin : begin + step])
                cells = [part.cells(begin, begin + step) for part in asked]
                for some in _rounds(cells, self._sizes.searches):
                    self._search_band(block, band, some, levels)
        return [best.found() for best in lists]

    def _search_band(
        self, block: GalleryBlock, band: Band, cells: Sequence[Cells], levels: list[int]
    ) -> None:
        """Answer searches of one band in one block.

        Args:
            block: of the gallery.
            band: the anchors.
            cells: the searches of each query.
            levels: the product that each query was last answered from; the next band starts there.
        """
        all_pairs = block.num_tiles * self._sizes.measured_share
        done: set[int] = set()
        for level in range(len(LEVELS)):
            now = [place for place, taken in enumerate(levels) if taken <= level]
            now = [place for place in now if place not in done and len(cells[place].which)]
            if not now:
                continue
            found = self._scan(block, band, [cells[place] for place in now], LEVELS[level])
            for place, candidates in zip(now, found, strict=True):
                few = candidates.num_pairs <= all_pairs * len(cells[place].which)
                can_be_fewer = cells[place].lists.tiles_that_bound is not None
                if few or not can_be_fewer or level == len(LEVELS) - 1:
                    self._measure(block, band, cells[place], candidates)
                    done.add(place)
                else:
                    levels[place] = level + 1

    def _scan(
        self, block: GalleryBlock, band: Band, cells: Sequence[Cells], level: int
    ) -> list[Candidates]:
        """Return the tiles that could matter to each query's searches."""
        factors, gallery = band.factors(level), block.factors(level)
        error = distance_error(factors, gallery, self._largest_norm2, self._spread)
        centre = band.norm2 + self._centre
        windows = [window(part, centre[part.anchor], error[part.anchor]) for part in cells]
        searches = 1 + max(int(part.number.max()) for part in cells)
        upper = torch.full((searches, len(band.x)), -torch.inf, device=self._device)
        for part, limits in zip(cells, windows, strict=True):
            upper[part.number, part.anchor] = limits.upper
        nearest, groups = self._steps.scan(
            factors.halves,
            gallery.halves,
            upper,
            *band.own_rows(block),
            block.num_rows,
            self._sizes.tile_rows,
            self._sizes.tiles_per_group,
        )
        return [
            Candidates(part, limits, nearest, groups, block.num_tiles)
            for part, limits in zip(cells, windows, strict=True)
        ]

    def _measure(
        self, block: GalleryBlock, band: Band, cells: Cells, candidates: Candidates
    ) -> None:
        """Offer the rows of all candidate tiles, with their defined d2."""
        own = band.own_rows(block)
        for searches, tiles in candidates.pairs():
            for begin in range(0, len(tiles), self._sizes.pairs):
                search = searches[begin : begin + self._sizes.pairs]
                tile = tiles[begin : begin + self._sizes.pairs]
                d2 = self._steps.measure(
                    block.tiles,
                    band.x,
                    cells.anchor[search],
                    tile,
                    *own,
                    cells.low[search],
                    cells.high[search],
                    block.num_rows,
                )
                row = block.begin + tile * self._sizes.tile_rows
                cells.lists.offer(cells.which[search], row, d2)

    def _band(self, rows: Int64Array) -> Band:
        here = torch.from_numpy(rows).to(self._device)
        if self._gallery.whole is None:
            x = torch.from_numpy(self._rows.x[rows]).to(self._device)
        else:
            x = self._gallery.whole.rows(here)
        identity = np.stack([self._rows.first[rows], self._rows.last[rows]], axis=1)
        return Band(
            x,
            torch.from_numpy(identity).to(self._device),
            torch.from_numpy(self._rows.norms2[rows]).to(self._device),
            self._steps.anchor_block,
            self._width,
        )

    def _block_rows(self) -> int:
        """Return how many gallery rows to keep on the device."""
        if self._sizes.block_rows is not None:
            return self._sizes.block_rows
        num_rows, dimension = len(self._rows.x), self._rows.x.shape[1]
        # Transposed float32 tiles, and float16 factors of both levels.
        row_bytes = 4 * dimension + 2 * sum(LEVELS) * self._width
        if num_rows * row_bytes <= self._bytes * _GALLERY_SHARE:
            return num_rows
        # While one block is searched the next one arrives, and is laid out before the old one goes.
        fitting = self._bytes * _GALLERY_SHARE / (2 * row_bytes + 12 * dimension)
        return _whole(fitting, self._sizes.tile_rows)

    def _band_anchors(self, block: GalleryBlock, searches: int) -> int:
        """Return how many anchors to search together."""
        if self._sizes.band_anchors is not None:
            return self._sizes.band_anchors
        # A value per tile; per group a value, its copy, and masks and positions of the near ones.
        groups = -(-block.num_tiles // self._sizes.tiles_per_group)
        values = groups * (4 * self._sizes.tiles_per_group + 64) * searches
        rows = 12 * self._rows.x.shape[1] + 2 * sum(LEVELS) * self._width + 64 * searches
        fitting = self._bytes * _BAND_SHARE / (values + rows)
        return _whole(fitting, self._steps.anchor_block)


class _Asked:
    """One query's searches in the order of their anchors.

    Args:
        query: the searches; those that nothing can answer are left out.
        place: (A,) position of each slot's anchor among the sorted anchors.
        lists: where answers go.
        device: where to keep them.
    """

    def __init__(
        self, query: Query, place: Int64Array, lists: DeviceLists, device: torch.device
    ) -> None:
        which = np.flatnonzero(query.low <= query.high)
        which = which[np.argsort(place[query.slot[which]], kind="stable")]
        self._place = place[query.slot[which]]
        self._lists = lists
        self._columns = [
            torch.from_numpy(column).to(device)
            for column in (which, self._place, query.low[which], query.high[which])
        ]

    def cells(self, begin: int, end: int) -> Cells:
        """Return the searches of the sorted anchors `begin:end`."""
        first, last = np.searchsorted(self._place, (begin, end)).tolist()
        which, place, low, high = (column[first:last] for column in self._columns)
        return Cells(self._lists, which, place - begin, low, high, torch.zeros_like(which))


def _whole(number: float, unit: int) -> int:
    return max(1, int(number / unit)) * unit


def _rounds(cells: Sequence[Cells], most: int) -> Iterator[list[Cells]]:
    """Number the searches of each anchor, and yield at most `most` of them at a time."""
    if not any(len(part.which) for part in cells):
        return
    anchor = torch.cat([part.anchor for part in cells])
    order = torch.argsort(anchor, stable=True)
    ascending = anchor[order]
    number = torch.empty_like(order)
    number[order] = torch.arange(len(order), device=order.device) - torch.searchsorted(
        ascending, ascending
    )
    numbers = number.split([len(part.anchor) for part in cells])
    for first in range(0, int(number.max()) + 1, most):
        yield [
            replace(part, number=own - first).take((own >= first) & (own < first + most))
            for part, own in zip(cells, numbers, strict=True)
        ]


def triton_steps() -> TileSteps:
    """Return the kernels; importing them takes Triton."""
    from facequarry.miner.engines.gpu import triton_kernels as kernels

    return TileSteps(kernels.ANCHOR_BLOCK, kernels.depth_of, kernels.scan, kernels.measure)


def torch_steps() -> TileSteps:
    """Return what stands in for the kernels where Triton is missing."""
    return TileSteps(1, gpu_torch.depth_of, gpu_torch.scan, gpu_torch.measure)


def _plan_bytes(device: torch.device, memory_gib: float | None) -> float:
    if memory_gib is not None:
        return memory_gib * _GIB
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _GIB


@contextlib.contextmanager
def _explaining_memory(device: torch.device) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        free, total = (num / _GIB for num in torch.cuda.mem_get_info(device))
        raise OutOfMemory(
            f"mining ran out of memory on {device} ({free:.1f} of {total:.1f} GiB are free): lower "
            "miner.gpu_memory_gib, which it then keeps to, or set miner.device = cpu"
        ) from error


def uses_gpu(config: MinerConfig) -> bool:
    """Return whether the exact engine of `config` runs on a GPU.

    Raises:
        BadInput: it asks for a GPU and there is none.
    """
    is_there = torch.cuda.is_available()
    if config.device == "cuda" and not is_there:
        raise BadInput("miner.device is cuda, and torch finds no GPU; set it to auto or cpu")
    return config.device != "cpu" and is_there


@contextlib.contextmanager
def open_gpu(rows: Rows, config: MinerConfig) -> Iterator[GpuSearch]:
    """Open the engine on the GPU that torch uses, and give its memory back in the end."""
    engine = GpuSearch(rows, "cuda", memory_gib=config.gpu_memory_gib)
    try:
        yield engine
    finally:
        del engine
        torch.cuda.empty_cache()
