"""A six-layer network that trains on a CPU: for the demo, the tests and small galleries.

Plain convolutions with batch normalisation, halving the picture four times, then global average
pooling and one linear layer onto the unit sphere. About 0.4 M parameters; 15 M multiply-adds for a
64 x 64 px face.
"""

from __future__ import annotations

import torch
from torch import nn

_LAYERS = ((24, 2), (48, 2), (96, 2), (96, 1), (128, 2), (160, 1))  # (channels, stride)


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
        self.head = nn.Linear(channels, embedding_dim, bias=False)
        # Centred before it is projected onto the sphere: an untrained network would otherwise map
        # all faces to nearly one point, and the first refresh would mine rounding noise.
        self.centre = nn.BatchNorm1d(embedding_dim, affine=False)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Embed a batch of faces."""
        pooled = self.features(faces).mean(dim=(2, 3))
        # Normalised in float32: under bf16 autocast the rows would miss unit length by 1e-2.
        return nn.functional.normalize(self.centre(self.head(pooled)).float(), dim=1)
