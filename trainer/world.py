"""The ranks that train together, as a value: one process alone, or a torch process group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """This rank's place. With more than one rank a torch process group must be initialised."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_on_gpu(self) -> bool:
        """Whether this rank computes on a GPU."""
        return self.device.startswith("cuda")

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the module whose backward pass averages gradients over the ranks."""
        return model if self.size == 1 else DistributedDataParallel(model)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Return the element-wise mean of `values` over the ranks."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.size
        return values

    def weight_of(self, count: int) -> float:
        """Return `count` over its mean over the ranks; 1 where no rank has any.

        A mean over this rank's `count` values, times this, averages over the ranks to the mean over
        all their values. Equal counts weigh exactly 1.
        """
        mean = self.mean(torch.tensor(count, dtype=torch.float64, device=self.device)).item()
        return count / mean if mean else 1.0

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, by rank; all ranks call it."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_rank_0(self, value: int) -> int:
        """Return rank 0's value on every rank."""
        if self.size == 1:
            return value
        box = torch.tensor([value], dtype=torch.int64, device=self.device)
        dist.broadcast(box, src=0)
        return int(box.item())
