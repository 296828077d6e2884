"""IResNet, the residual network of face recognition, under the published parameter names.

Pre-activation residual blocks without a max-pool, ending in a linear layer over the 7 x 7 grid that
a 112 px face leaves. Names and shapes are those of insightface's arcface_torch port, so its weight
files load as they are. Another crop size is pooled to 7 x 7 first, which at 112 px changes nothing.

Source: Duta et al. 2020, Improved Residual Networks; ArcFace (Deng et al. 2019), section 3.1.
"""

from __future__ import annotations

import torch
from torch import nn

# Blocks in each of the four layers.
BLOCKS: dict[str, tuple[int, int, int, int]] = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
}
_CHANNELS = (64, 128, 256, 512)
_GRID = 7
_INITIAL_STD = 0.1


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; the second one takes the stride."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.prelu = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's (B, out_channels, H / stride, W / stride) grid."""
        shortcut: torch.Tensor = x if self.downsample is None else self.downsample(x)
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        result: torch.Tensor = self.bn3(self.conv2(inner)) + shortcut
        return result


class IResNet(nn.Module):
    """(B, 3, H, W) float in [-1, 1] to (B, embedding_dim) unit rows; published at 112 px and 512-d.

    Args:
        blocks: how many blocks each layer has.
        embedding_dim: D, length of the unit rows.
    """

    def __init__(self, blocks: tuple[int, int, int, int], embedding_dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _CHANNELS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_CHANNELS[0])
        self.prelu = nn.PReLU(_CHANNELS[0])
        channels = _CHANNELS[0]
        for number, (out_channels, count) in enumerate(zip(_CHANNELS, blocks, strict=True), 1):
            strided = ResidualBlock(channels, out_channels, 2)
            others = [ResidualBlock(out_channels, out_channels, 1) for _ in range(count - 1)]
            self.add_module(f"layer{number}", nn.Sequential(strided, *others))
            channels = out_channels
        self.bn2 = nn.BatchNorm2d(channels)
        self.pool = nn.AdaptiveAvgPool2d(_GRID)
        self.fc = nn.Linear(channels * _GRID * _GRID, embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim)
        # Published as a constant 1: what follows rescales the rows in any case.
        self.features.weight.requires_grad = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=_INITIAL_STD)

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Embed a batch of faces."""
        grid = self.prelu(self.bn1(self.conv1(faces)))
        for number in range(1, len(_CHANNELS) + 1):
            grid = self.get_submodule(f"layer{number}")(grid)
        rows = self.features(self.fc(self.pool(self.bn2(grid)).flatten(1)))
        # Normalised in float32: under bf16 autocast the rows would miss unit length by 1e-2.
        return nn.functional.normalize(rows.float(), dim=1)
