"""What a thread of the exact engine holds while it goes through tiles.

Jobs of an engine lend it to each other, search after search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from facequarry.miner.kernels.layout import Float32Array
from facequarry.miner.kernels.tiles import Limits


@dataclass(slots=True)
class Count:
    """What was done."""

    looked_at: int = 0
    decided: int = 0

    def add(self, looked_at: int, decided: int) -> None:
        """Add what was done elsewhere, or to one tile more."""
        self.looked_at += looked_at
        self.decided += decided


@dataclass(frozen=True, slots=True)
class Room:
    """Memory for a tile of R x C products, used again for each."""

    tile: torch.Tensor
    """Flat, R * C float32; what brings memory of its own leaves it untouched."""
    left: Limits
    """Of R rows."""
    right: Limits
    """Of C rows."""
    values: NDArray[np.int32]
    """(C,)"""
    known: Float32Array
    """(C,)"""


class Scratch:
    """The memory of a thread, job after job.

    Args:
        rows: R of its tiles, at most.
        columns: C of its tiles, at most.
        most_searches: of one row.
    """

    def __init__(self, rows: int, columns: int, most_searches: int) -> None:
        self._shape = rows, columns
        self._most_searches = most_searches
        self.room = Room(
            tile=torch.empty(rows * columns, dtype=torch.float32),
            left=_limits(most_searches, rows),
            right=_limits(most_searches, columns),
            values=np.empty(columns, np.int32),
            known=np.empty(columns, np.float32),
        )
        self.count = Count()

    def fit(self, most_searches: int) -> None:
        """Have room for so many searches of one row, and no more."""
        if most_searches == self._most_searches:
            return
        self._most_searches = most_searches
        left, right = (_limits(most_searches, size) for size in self._shape)
        self.room = replace(self.room, left=left, right=right)

    def end(self) -> Count:
        """Return what was done in one job; the next one begins to count anew."""
        count, self.count = self.count, Count()
        return count


def _limits(most_searches: int, size: int) -> Limits:
    return Limits(
        low=np.empty((most_searches, size), np.int32),
        high=np.empty((most_searches, size), np.int32),
        reach=np.empty(size, np.int32),
    )
