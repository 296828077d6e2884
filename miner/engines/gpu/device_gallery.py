"""The gallery and its anchors on the device: one block that stays, or blocks that stream past."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from facequarry.miner.engines.gpu.float16_bound import Factors, split
from facequarry.miner.kernels.layout import Rows


class GalleryBlock:
    """Gallery rows `begin:begin + num_rows` on the device, padded with zeros to whole tiles.

    Args:
        x: (R, D) float32 on the device.
        begin: first gallery row.
        tile_rows: rows of a tile.
        width: D as the products need it padded.
    """

    def __init__(self, x: torch.Tensor, begin: int, tile_rows: int, width: int) -> None:
        self.begin = begin
        self.num_rows = len(x)
        self.num_tiles = -(-len(x) // tile_rows)
        self._width = width
        padded = x.new_zeros((self.num_tiles * tile_rows, x.shape[1]))
        padded[: len(x)] = x
        self._factors = {1: split(padded, 1, width, is_gallery=True)}
        self.tiles = padded.view(self.num_tiles, tile_rows, -1).transpose(1, 2).contiguous()
        """(T, D, tile_rows) float32: neighbouring lanes read neighbouring rows."""

    def factors(self, level: int) -> Factors:
        """Return the factors of all rows; those of a finer level are made when first needed."""
        if level not in self._factors:
            rows = self.tiles.transpose(1, 2).reshape(-1, self.tiles.shape[1])
            self._factors[level] = split(rows, level, self._width, is_gallery=True)
        return self._factors[level]

    def rows(self, row: torch.Tensor) -> torch.Tensor:
        """Return (A, D) float32, the gallery rows `row`, which must lie in this block."""
        tile_rows = self.tiles.shape[2]
        local = row - self.begin
        return self.tiles[local // tile_rows, :, local % tile_rows]


class Gallery:
    """Goes through the gallery block by block, copying the next one while one is searched.

    Args:
        rows: the gallery.
        device: where to.
        block_rows: rows of a block; all of them make one block, which is copied once and stays.
        tile_rows: rows of a tile.
        width: D as the products need it padded.
    """

    def __init__(
        self, rows: Rows, device: torch.device, block_rows: int, tile_rows: int, width: int
    ) -> None:
        self._rows = rows
        self._device = device
        self._block_rows = block_rows
        self._tile_rows = tile_rows
        self._width = width
        self._copies = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.whole: GalleryBlock | None = None
        """The only block, where everything fits."""
        if block_rows >= len(rows.x):
            self.whole = self._block(self._copy(0), 0)

    def __iter__(self) -> Iterator[GalleryBlock]:
        if self.whole is not None:
            yield self.whole
            return
        begins = range(0, len(self._rows.x), self._block_rows)
        with ThreadPoolExecutor(1, thread_name_prefix="gallery") as copier:
            coming = copier.submit(self._copy, 0)
            for begin in begins:
                x = coming.result()
                if self._copies is not None:
                    # Its memory must not be used again by a copy while the search reads it.
                    x.record_stream(torch.cuda.current_stream(self._device))
                if begin + self._block_rows < len(self._rows.x):
                    coming = copier.submit(self._copy, begin + self._block_rows)
                yield self._block(x, begin)

    def _block(self, x: torch.Tensor, begin: int) -> GalleryBlock:
        return GalleryBlock(x, begin, self._tile_rows, self._width)

    def _copy(self, begin: int) -> torch.Tensor:
        """Return the rows of one block on the device, all there."""
        x = torch.from_numpy(self._rows.x[begin : begin + self._block_rows])
        if self._copies is None or len(x) == len(self._rows.x):
            return x.to(self._device)
        # Out of pinned memory and on a stream of its own, a copy runs beside the kernels.
        with torch.cuda.stream(self._copies):
            copied = x.pin_memory().to(self._device, non_blocking=True)
        self._copies.synchronize()
        return copied


class Band:
    """Anchors that are searched together, in ascending rows; padded to whole anchor blocks.

    Args:
        x: (A, D) float32 on the device.
        identity: (A, 2) int64, first row of the anchor's identity and one past its last.
        norm2: (A,) float64.
        anchor_block: what the number of anchors is padded to a multiple of, by the last one.
        width: D as the products need it padded.
    """

    def __init__(
        self,
        x: torch.Tensor,
        identity: torch.Tensor,
        norm2: torch.Tensor,
        anchor_block: int,
        width: int,
    ) -> None:
        padding = -len(x) % anchor_block
        every = torch.arange(len(x) + padding, device=x.device).clamp_max(len(x) - 1)
        self.x = x[every].contiguous()
        self.identity = identity[every]
        self.norm2 = norm2[every]
        self._width = width
        self._factors: dict[int, Factors] = {}

    def factors(self, level: int) -> Factors:
        """Return the anchors' factors."""
        if level not in self._factors:
            self._factors[level] = split(self.x, level, self._width, is_gallery=False)
        return self._factors[level]

    def own_rows(self, block: GalleryBlock) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (A,) int32 first and one past the last row of the own identity in `block`."""
        local = (self.identity - block.begin).clamp(0, block.num_rows).to(torch.int32)
        return local[:, 0].contiguous(), local[:, 1].contiguous()
