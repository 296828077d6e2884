"""The running statistics of batch normalisation: set once at the start, or never moved at all."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def calibrate(model: nn.Module, faces: torch.Tensor) -> None:
    """Set every batch normalisation's running statistics from (B, 3, H, W) faces.

    A fresh network's statistics are 0 and 1, which no face has: the checkpoint of step 0, which
    the first refresh mines and results are compared with, would not be the untrained network.
    """
    norms = _norms(model)
    momentums = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of this batch
    with torch.no_grad():
        model.train()(faces)
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
