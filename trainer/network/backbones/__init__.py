"""Networks from (B, 3, H, W) faces to (B, D) unit rows; one network a file, with its source."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from facequarry.datasets.disk.errors import BadInput
from facequarry.trainer.network.backbones.compact import Compact
from facequarry.trainer.network.backbones.iresnet import BLOCKS, IResNet

_BACKBONES: dict[str, Callable[[int], nn.Module]] = {
    "compact": Compact,
    **{name: partial(IResNet, blocks) for name, blocks in BLOCKS.items()},
}


def build_backbone(name: str, embedding_dim: int) -> nn.Module:
    """Build an untrained backbone by its configured name.

    Args:
        name: a key of the table above.
        embedding_dim: D, length of the unit rows it returns.

    Raises:
        BadInput: the name is unknown.
    """
    if name not in _BACKBONES:
        raise BadInput(f"unknown backbone {name!r}; one of: {', '.join(sorted(_BACKBONES))}")
    return _BACKBONES[name](embedding_dim)
