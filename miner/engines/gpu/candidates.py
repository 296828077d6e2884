"""Which tiles of the gallery could hold an answer: from the scan's minima to pairs to measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from facequarry.miner.engines.gpu.device_lists import DeviceLists

# Values gathered at a time.
_ELEMENTS = 1 << 24


@dataclass(frozen=True, slots=True)
class Cells:
    """Searches of one query in one band of anchors."""

    lists: DeviceLists
    which: torch.Tensor
    """(n,) int64, their positions in the query."""
    anchor: torch.Tensor
    """(n,) int64, their anchors' positions in the band."""
    low: torch.Tensor
    """(n,) float32, smallest d2 that qualifies."""
    high: torch.Tensor
    """(n,) float32, largest d2 that qualifies."""
    number: torch.Tensor
    """(n,) int64, place among the searches that one scan answers for this anchor."""

    def take(self, chosen: torch.Tensor) -> Cells:
        """Return those that a mask or positions choose."""
        columns = (self.which, self.anchor, self.low, self.high, self.number)
        return Cells(self.lists, *(column[chosen] for column in columns))


@dataclass(frozen=True, slots=True)
class Window:
    """What the values of a scan mean to n searches.

    A value v, `upper - product`, stands for the distance `base + 2 v`, with `base` a little below
    `low`, and is within the error of the defined d2.
    """

    upper: torch.Tensor
    """(n,) float32, largest product that an answer can have."""
    certain_from: torch.Tensor
    """(n,) float32; values in [certain_from, certain_to] belong to a qualifying negative."""
    certain_to: torch.Tensor
    most: torch.Tensor
    """(n,) float32, largest value that an answer can have."""
    error: torch.Tensor
    """(n,) float64: of two values, one larger by more than this belongs to the larger d2."""


def window(cells: Cells, centre: torch.Tensor, error: torch.Tensor) -> Window:
    """Turn limits on d2 into limits on a scan's values, rounded outwards.

    Args:
        cells: the searches.
        centre: (n,) float64, |a|^2 + c: a product s stands for the distance centre - 2 s.
        error: (n,) float64, from `miner.gpu_bound.distance_error`.
    """
    low, high = cells.lists.limits(cells.which, cells.low, cells.high)
    least, most = low.double().clamp_min(0), high.double()
    upper = round_up((centre - least + error) / 2)
    base = centre - 2 * upper.double()
    return Window(
        upper=upper,
        certain_from=round_up((least + error - base) / 2),
        certain_to=-round_up(-(most - error - base) / 2),
        most=round_up((most + error - base) / 2),
        error=error,
    )


def round_up(values: torch.Tensor) -> torch.Tensor:
    """Return the smallest float32 that is not below each float64."""
    rounded = values.to(torch.float32)
    above = torch.nextafter(rounded, torch.full_like(rounded, torch.inf))
    return torch.where(rounded.double() < values, above, rounded)


class Candidates:
    """The pairs of a search and a tile that must be measured.

    Where the nearest is wanted, some tile's value that certainly belongs to a qualifying negative
    bounds what the answer can be: tiles beyond it by more than the error are out.

    Args:
        cells: the searches.
        window: their limits.
        nearest: (S, G * tiles_per_group, A), from a scan.
        groups: (S, G, A), from the same.
        num_tiles: tiles that count.
    """

    def __init__(
        self,
        cells: Cells,
        window: Window,
        nearest: torch.Tensor,
        groups: torch.Tensor,
        num_tiles: int,
    ) -> None:
        self._cells = cells
        self._window = window
        self._nearest = nearest.view(*groups.shape[:2], -1, groups.shape[2])
        self._num_tiles = num_tiles
        self._limit = window.most
        near = groups[cells.number, :, cells.anchor]
        wanted = cells.lists.tiles_that_bound
        if wanted is not None:
            self._bound_by(near, wanted)
        is_near = (near >= 0) & (near <= self._limit[:, None])
        self._search, self._group = torch.nonzero(is_near, as_tuple=True)
        if wanted == 1:
            self._tighten()
        self.num_pairs = sum(int(self._is_near(*part).sum()) for part in self._parts())

    def pairs(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (P,) positions in `cells` and (P,) tiles, by ascending tile in each part."""
        tiles_per_group = self._nearest.shape[2]
        for search, group, values in self._parts():
            place, tile = torch.nonzero(self._is_near(search, group, values), as_tuple=True)
            tile += group[place] * tiles_per_group
            order = torch.argsort(tile)
            yield search[place][order], tile[order]

    def _bound_by(self, near: torch.Tensor, wanted: int) -> None:
        if wanted > near.shape[1]:
            return
        certain = self._certain(near, torch.arange(len(near), device=near.device))
        last = certain.amin(1) if wanted == 1 else certain.kthvalue(wanted).values
        self._limit = torch.minimum(self._limit, round_up(last.double() + self._window.error))

    def _tighten(self) -> None:
        """Bound again by the tiles: some group's least value may hide a certain one behind it."""
        best = torch.full_like(self._limit, torch.inf)
        for search, _, values in self._parts():
            best.scatter_reduce_(0, search, self._certain(values, search).amin(1), "amin")
        self._limit = torch.minimum(self._limit, round_up(best.double() + self._window.error))

    def _certain(self, values: torch.Tensor, search: torch.Tensor) -> torch.Tensor:
        """Return (n, G) values that certainly belong to a qualifying negative, else infinity."""
        is_certain = values >= self._window.certain_from[search, None]
        is_certain &= values <= self._window.certain_to[search, None]
        return torch.where(is_certain, values, torch.inf)

    def _parts(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield (P,) searches, (P,) groups and (P, tiles_per_group) values of their tiles."""
        tiles_per_group = self._nearest.shape[2]
        step = max(1, _ELEMENTS // tiles_per_group)
        tile = torch.arange(tiles_per_group, device=self._group.device)
        for begin in range(0, len(self._search), step):
            search, group = self._search[begin : begin + step], self._group[begin : begin + step]
            number, anchor = self._cells.number[search], self._cells.anchor[search]
            values = self._nearest[number, group, :, anchor]
            # The last group may be short: what lies behind it was never written.
            counts = group[:, None] * tiles_per_group + tile < self._num_tiles
            yield search, group, torch.where(counts, values, -1)

    def _is_near(
        self, search: torch.Tensor, group: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        return (values >= 0) & (values <= self._limit[search, None])
