"""The ranks that train together, as a value: one process alone, or a torch process group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class World:
    """This rank's place. With more than one rank a torch process group must be initialised."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

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

    def from_rank_0(self, value: int) -> int:
        """Return rank 0's value on every rank."""
        if self.size == 1:
            return value
        box = torch.tensor([value], dtype=torch.int64, device=self.device)
        dist.broadcast(box, src=0)
        return int(box.item())
