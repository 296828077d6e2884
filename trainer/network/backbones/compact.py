"""A six-layer network that trains on a CPU: for the demo, the tests and small galleries.

Plain convolutions with batch normalisation, halving the picture four times, then what is left of
its layout (4 x 4) through one linear layer onto the unit sphere. 0.8 M parameters at 128 dimensions
and 16 M multiply-adds for a 64 x 64 px face.
"""

from __future__ import annotations

import torch
from torch import nn

_LAYERS = ((24, 2), (48, 2), (96, 2), (96, 1), (128, 2), (160, 1))  # (channels, stride)
_GRID = 4


class Compact(nn.Module):
    """(B, 3, H, W) float in [-1, 1] to (B, embedding_dim) unit rows; H and W from 32 px up."""

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for out_channels, stride in _LAYERS:
            layers += [
                nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(inplace=True),
            ]
            channels = out_channels
        self.features = nn.Sequential(*layers)
        # The layout is kept: averaging over it verified held-out people worse (docs/results.md).
        self.pool = nn.AdaptiveAvgPool2d(_GRID)
        self.head = nn.Linear(channels * _GRID * _GRID, embedding_dim)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Embed a batch of faces."""
        grid = self.pool(self.features(faces)).flatten(1)
        # Normalised in float32: under bf16 autocast the rows would miss unit length by 1e-2.
        return nn.functional.normalize(self.head(grid).float(), dim=1)
