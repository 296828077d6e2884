"""The best lists of one query on the device: what `miner.kernels` keeps, as sorts over tensors."""

from __future__ import annotations

import numpy as np
import torch

from facequarry.miner.kernels.layout import (
    FARTHEST,
    HASH,
    NEAREST,
    Found,
    Int64Array,
    Query,
    no_best,
)

_NOTHING = torch.iinfo(torch.int64).max
_SIGN = torch.iinfo(torch.int64).min


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def fold(state: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return what `miner.kernels.fold` does, its 64 bits as int64: sums and products wrap alike."""
    z = state + _GOLDEN * (value + 1)
    z = (z ^ _shifted(z, 30)) * _MIX_1
    z = (z ^ _shifted(z, 27)) * _MIX_2
    return z ^ _shifted(z, 31)


def _shifted(z: torch.Tensor, places: int) -> torch.Tensor:
    return (z >> places) & ((1 << (64 - places)) - 1)


class Names:
    """What the gallery's rows are called, on the device.

    Args:
        ids: (N,) the caller's numbers, all different.
        first: (N,) first row of this row's identity.
        device: where to keep them.
    """

    def __init__(self, ids: Int64Array, first: Int64Array, device: torch.device) -> None:
        self.ids = torch.from_numpy(ids).to(device)
        self.identity = torch.from_numpy(first).to(device)
        self.row_of_place = torch.argsort(self.ids)
        """(N,) the row with the n-th smallest id."""
        self.place = torch.empty_like(self.row_of_place)
        """(N,) how many ids are smaller: stands for the id in ties."""
        self.place[self.row_of_place] = torch.arange(len(ids), device=device)


class DeviceLists:
    """The best negatives so far of the Q searches of one query.

    Args:
        query: the searches.
        names: what ties are broken by.
    """

    def __init__(self, query: Query, names: Names) -> None:
        self._query = query
        self._names = names
        device = names.ids.device
        shape = (query.slot.size, query.wanted)
        self._key = torch.full(shape, _NOTHING, dtype=torch.int64, device=device)
        self._place = torch.zeros(shape, dtype=torch.int64, device=device)
        self._d2 = torch.zeros(shape, dtype=torch.float32, device=device)
        self._num = torch.zeros(shape[0], dtype=torch.int64, device=device)
        self._total = torch.zeros(shape[0], dtype=torch.int64, device=device)
        state = torch.from_numpy(query.state.view(np.int64)) if query.order == HASH else None
        self._state = None if state is None else state.to(device)
        sign = -1 if query.order == FARTHEST else 1
        self._sign = sign
        # The largest sign * d2 that could still enter; meaningless for HASH.
        self._limit = torch.full((shape[0],), torch.inf, device=device)

    @property
    def tiles_that_bound(self) -> int | None:
        """How many tiles with a negative in the band bound what the list can end with, if any."""
        query = self._query
        if query.order != NEAREST or query.counted or (query.distinct and query.wanted > 1):
            return None
        return query.wanted

    def limits(
        self, which: torch.Tensor, low: torch.Tensor, high: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the interval in which a negative could still matter to searches `which`."""
        if self._query.counted or self._query.order == HASH:
            return low, high
        if self._query.order == NEAREST:
            return low, torch.minimum(high, self._limit[which])
        return torch.maximum(low, -self._limit[which]), high

    def offer(self, which: torch.Tensor, row: torch.Tensor, d2: torch.Tensor) -> None:
        """Take in the negatives of P searches and tiles.

        Args:
            which: (P,) int64, searches.
            row: (P,) int64, first gallery row of each tile.
            d2: (P, C) float32, infinite where a row does not qualify.
        """
        query = self._query
        if query.counted:
            self._total.index_add_(0, which, torch.isfinite(d2).sum(1))
        pair, column = torch.nonzero(self._worth_listing(which, d2), as_tuple=True)
        which, row, d2 = which[pair], row[pair] + column, d2[pair, column]
        key = self._keys(which, row, d2)
        may_enter = key <= self._key[which, query.wanted - 1]
        which, row, key, d2 = (values[may_enter] for values in (which, row, key, d2))
        self._merge(which, key, self._names.place[row], d2)

    def _worth_listing(self, which: torch.Tensor, d2: torch.Tensor) -> torch.Tensor:
        """Return (P, C) bool: those that the best of their own tiles leave a chance."""
        query = self._query
        qualifies = torch.isfinite(d2)
        if query.order == HASH or (query.distinct and query.wanted > 1):
            return qualifies
        rank = torch.where(qualifies, self._sign * d2, torch.inf)
        if query.wanted == 1:
            self._limit.scatter_reduce_(0, which, rank.amin(1), "amin")
            return qualifies & (rank <= self._limit[which, None])
        worst = rank.kthvalue(min(query.wanted, rank.shape[1])).values
        if query.wanted > rank.shape[1]:
            worst.fill_(torch.inf)
        return qualifies & (rank <= torch.minimum(worst, self._limit[which])[:, None])

    def _keys(self, which: torch.Tensor, row: torch.Tensor, d2: torch.Tensor) -> torch.Tensor:
        """Return int64 keys that sort as the unsigned keys of `miner.kernels` do."""
        if self._state is not None:
            return fold(self._state[which], self._names.ids[row]) ^ _SIGN
        bits = d2.view(torch.int32).long()
        return bits if self._query.order == NEAREST else ~bits

    def _merge(
        self, which: torch.Tensor, key: torch.Tensor, place: torch.Tensor, d2: torch.Tensor
    ) -> None:
        wanted = self._query.wanted
        touched = torch.unique(which)
        old, at = torch.nonzero(
            torch.arange(wanted, device=key.device) < self._num[touched, None], as_tuple=True
        )
        old = touched[old]
        which = torch.cat([old, which])
        key = torch.cat([self._key[old, at], key])
        place = torch.cat([self._place[old, at], place])
        d2 = torch.cat([self._d2[old, at], d2])
        order = torch.argsort(place)
        for values in (key, which):
            order = order[torch.argsort(values[order], stable=True)]
        which, key, place, d2 = (values[order] for values in (which, key, place, d2))
        if self._query.distinct and wanted > 1:
            is_first = self._is_first_of_identity(which, place)
            which, key, place, d2 = (values[is_first] for values in (which, key, place, d2))
        position = torch.arange(len(which), device=key.device)
        at = position - torch.searchsorted(which, which)
        keep = at < wanted
        which, at, key, place, d2 = (values[keep] for values in (which, at, key, place, d2))
        self._key[touched] = _NOTHING
        self._key[which, at] = key
        self._place[which, at] = place
        self._d2[which, at] = d2
        self._num[touched] = torch.bincount(which, minlength=len(self._num))[touched]
        full = touched[self._num[touched] == wanted]
        self._limit[full] = self._sign * self._d2[full, wanted - 1]

    def _is_first_of_identity(self, which: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Return (T,) bool for entries sorted by search and preference."""
        identity = self._names.identity[self._names.row_of_place[place]]
        order = torch.argsort(identity, stable=True)
        order = order[torch.argsort(which[order], stable=True)]
        which, identity = which[order], identity[order]
        is_first = torch.ones(len(order), dtype=torch.bool, device=order.device)
        is_first[order[1:]] = (which[1:] != which[:-1]) | (identity[1:] != identity[:-1])
        return is_first

    def found(self) -> Found:
        """Return the lists as the other engines do; every answer is complete."""
        best = no_best(self._query)
        num = self._num.cpu().numpy()
        listed = np.arange(self._query.wanted) < num[:, None]
        row = self._names.row_of_place[self._place]
        best.row[listed] = row.cpu().numpy()[listed]
        best.d2[listed] = self._d2.cpu().numpy()[listed]
        best.num[:] = num
        if self._query.counted:
            best.total[:] = self._total.cpu().numpy()
        return Found(best=best, complete=np.ones(num.size, np.bool_))
