"""What a thread of the exact engine holds while it goes through tiles.

Jobs of an engine lend it to each other, search after search: memory for a tile, and which product
paid lately.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from facequarry.miner.kernels.layout import Float32Array
from facequarry.miner.kernels.tiles import Limits

MOST_UNTRIED = 16
"""Columns of tiles after which the coarse product is tried again at the latest."""


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
    """Flat, R * C float32; `torch.Tensor.view` makes other types of four bytes of it. What brings
    memory of its own leaves it untouched."""
    left: Limits
    """Of R rows."""
    right: Limits
    """Of C rows."""
    values: NDArray[np.int32]
    """(C,)"""
    known: Float32Array
    """(C,)"""


class Scratch:
    """A thread's turn, job after job.

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
        self._untried = 0
        self._next_untried = 1

    def fit(self, most_searches: int) -> None:
        """Have room for so many searches of one row, and no more: what it learned stays."""
        if most_searches == self._most_searches:
            return
        self._most_searches = most_searches
        left, right = (_limits(most_searches, size) for size in self._shape)
        self.room = replace(self.room, left=left, right=right)

    def end(self) -> Count:
        """Return what was done in one job; the next one begins to count anew."""
        count, self.count = self.count, Count()
        return count

    def is_costly(self) -> bool:
        """Say whether the coarse product left too much undecided a short while ago."""
        if not self._untried:
            return False
        self._untried -= 1
        return True

    def succeed(self) -> None:
        """Note that the coarse product was the cheaper one for a column of tiles."""
        self._next_untried = 1

    def give_up(self) -> None:
        """Note that it was not: it is tried again after twice as many columns as before."""
        self._untried = self._next_untried
        self._next_untried = min(2 * self._next_untried, MOST_UNTRIED)


def _limits(most_searches: int, size: int) -> Limits:
    return Limits(
        low=np.empty((most_searches, size), np.int32),
        high=np.empty((most_searches, size), np.int32),
        reach=np.empty(size, np.int32),
    )
