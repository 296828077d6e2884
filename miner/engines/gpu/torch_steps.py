"""The two steps of the GPU engine in plain torch: on a CPU in tests, and where Triton is missing.

Both are what `gpu.triton_kernels` does in Triton, with the products written out to memory.
"""

from __future__ import annotations

import torch

from facequarry.miner.core.distance import float32_precision

# Products that exist at a time.
_ELEMENTS = 1 << 24


def depth_of(width: int) -> int:
    """Return what the rows of factors must be padded to a multiple of."""
    return 1


def scan(
    anchors: torch.Tensor,
    gallery: torch.Tensor,
    upper: torch.Tensor,
    first: torch.Tensor,
    last: torch.Tensor,
    num_rows: int,
    tile_rows: int,
    tiles_per_group: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how far below its limit each search's nearest product is, by tile and by group.

    Args:
        anchors: (A, K) float16 factors.
        gallery: (T * tile_rows, K) float16 factors; rows from `num_rows` on are padding.
        upper: (S, A) float32, largest product that counts; -inf where there is no search.
        first: (A,) int32, first row of the anchor's own identity, whose rows do not count.
        last: (A,) int32, one past its last row.
        num_rows: rows that count.
        tile_rows: rows of a tile.
        tiles_per_group: tiles of a group.

    Returns:
        (S, G * tiles_per_group, A) and (S, G, A) float32: the smallest `upper - product` that is
        not negative, or some negative value where there is none. Tiles from T on hold anything.
    """
    searches, num_tiles = len(upper), len(gallery) // tile_rows
    num_groups = -(-num_tiles // tiles_per_group)
    nearest = torch.full((searches, num_groups * tiles_per_group, len(anchors)), torch.inf)
    nearest = nearest.to(anchors.device)
    # TensorFloat32 keeps all 11 bits of a float16 factor; bfloat16 would not.
    kind = torch.float64 if float32_precision() == "medium" else torch.float32
    left = anchors.to(kind).T.contiguous()
    step = max(1, _ELEMENTS // (len(anchors) * tile_rows))
    for tile in range(0, num_tiles, step):
        begin, end = tile * tile_rows, min(tile + step, num_tiles) * tile_rows
        product = (gallery[begin:end].to(kind) @ left).to(torch.float32)
        row = torch.arange(begin, end, device=anchors.device)[:, None]
        is_out = (row >= first) & (row < last) | (row >= num_rows)
        for j in range(searches):
            below = upper[j] - product
            below.masked_fill_(is_out | (below < 0), torch.inf)
            tiles = below.view(-1, tile_rows, len(anchors)).amin(1)
            nearest[j, tile : tile + len(tiles)] = tiles
    groups = nearest.view(searches, num_groups, tiles_per_group, -1).amin(2)
    return _or_negative(nearest), _or_negative(groups)


def _or_negative(nearest: torch.Tensor) -> torch.Tensor:
    return nearest.masked_fill_(nearest == torch.inf, -1)


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
    """Return the defined d2 of anchors and all rows of a tile.

    Args:
        tiles: (T, D, tile_rows) float32, the gallery's tiles transposed.
        anchors: (A, D) float32.
        pair_anchor: (P,) int64.
        pair_tile: (P,) int64.
        first: (A,) int32, as for `scan`.
        last: (A,) int32.
        low: (P,) float32, smallest d2 that counts.
        high: (P,) float32, largest d2 that counts.
        num_rows: rows that count.

    Returns:
        (P, tile_rows) float32, infinite where a row does not count.
    """
    tile_rows = tiles.shape[2]
    total = torch.zeros((len(pair_tile), tile_rows), dtype=torch.float64, device=tiles.device)
    for k in range(tiles.shape[1]):
        # Two steps, so that nothing fuses the product into the sum.
        difference = anchors[pair_anchor, k, None].double() - tiles[pair_tile, k].double()
        difference *= difference
        total += difference
    d2 = total.to(torch.float32)
    row = pair_tile[:, None] * tile_rows + torch.arange(tile_rows, device=tiles.device)
    is_own = (row >= first[pair_anchor, None]) & (row < last[pair_anchor, None])
    is_in = (d2 >= low[:, None]) & (d2 <= high[:, None]) & ~is_own & (row < num_rows)
    return d2.masked_fill_(~is_in, torch.inf)
