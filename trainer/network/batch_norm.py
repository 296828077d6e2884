"""The running statistics of batch normalisation: set once at the start, or never moved at all."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

# Faces that go through the network at once: a training step's memory grows with them.
_TILE = 64


def calibrate(model: nn.Module, faces: torch.Tensor) -> None:
    """Set every batch normalisation's running statistics from (B, 3, H, W) faces, B 2 or more.

    They are the means over even tiles of at most 64 faces, each normalised by its own statistics as
    a training batch is.

    A fresh network's statistics are 0 and 1, which no face has: the checkpoint of step 0, which
    the first refresh mines and results are compared with, would not be the untrained network.
    """
    norms = _norms(model)
    momentums = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean, every tile weighing the same
    with torch.no_grad():
        for tile in faces.tensor_split(-(-len(faces) // _TILE)):
            model.train()(tile)
    for norm, momentum in zip(norms, momentums, strict=True):
        norm.momentum = momentum


def training_mode(model: nn.Module, *, freeze_statistics: bool) -> nn.Module:
    """Put a model into training mode and return it.

    Args:
        model: a backbone.
        freeze_statistics: normalise by the running statistics and leave them as they are, so that
            a face's embedding does not depend on the rest of its batch.
    """
    model.train()
    if freeze_statistics:
        for norm in _norms(model):
            norm.eval()
    return model


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
