from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch.nn import functional

from facequarry.trainer.config import BACKBONES, Backbone
from facequarry.trainer.network.backbones import build_backbone

# iresnet18 as insightface's arcface_torch publishes it: module, then the shape of its weight. A
# bn has four vectors of that length and a counter.
PUBLISHED = """
conv1 64 3 3 3 | bn1 64 | prelu 64
layer1.0.bn1 64 | layer1.0.conv1 64 64 3 3 | layer1.0.bn2 64 | layer1.0.prelu 64
layer1.0.conv2 64 64 3 3 | layer1.0.bn3 64
layer1.0.downsample.0 64 64 1 1 | layer1.0.downsample.1 64
layer1.1.bn1 64 | layer1.1.conv1 64 64 3 3 | layer1.1.bn2 64 | layer1.1.prelu 64
layer1.1.conv2 64 64 3 3 | layer1.1.bn3 64
layer2.0.bn1 64 | layer2.0.conv1 128 64 3 3 | layer2.0.bn2 128 | layer2.0.prelu 128
layer2.0.conv2 128 128 3 3 | layer2.0.bn3 128
layer2.0.downsample.0 128 64 1 1 | layer2.0.downsample.1 128
layer2.1.bn1 128 | layer2.1.conv1 128 128 3 3 | layer2.1.bn2 128 | layer2.1.prelu 128
layer2.1.conv2 128 128 3 3 | layer2.1.bn3 128
layer3.0.bn1 128 | layer3.0.conv1 256 128 3 3 | layer3.0.bn2 256 | layer3.0.prelu 256
layer3.0.conv2 256 256 3 3 | layer3.0.bn3 256
layer3.0.downsample.0 256 128 1 1 | layer3.0.downsample.1 256
layer3.1.bn1 256 | layer3.1.conv1 256 256 3 3 | layer3.1.bn2 256 | layer3.1.prelu 256
layer3.1.conv2 256 256 3 3 | layer3.1.bn3 256
layer4.0.bn1 256 | layer4.0.conv1 512 256 3 3 | layer4.0.bn2 512 | layer4.0.prelu 512
layer4.0.conv2 512 512 3 3 | layer4.0.bn3 512
layer4.0.downsample.0 512 256 1 1 | layer4.0.downsample.1 512
layer4.1.bn1 512 | layer4.1.conv1 512 512 3 3 | layer4.1.bn2 512 | layer4.1.prelu 512
layer4.1.conv2 512 512 3 3 | layer4.1.bn3 512
bn2 512 | fc 512 25088 | features 512
"""
NORMS = ("bn1", "bn2", "bn3", "downsample.1", "features")


def published_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in PUBLISHED.replace("\n", "|").split("|"):
        if not entry.strip():
            continue
        name, *numbers = entry.split()
        shapes[f"{name}.weight"] = tuple(map(int, numbers))
        if name == "fc":
            shapes["fc.bias"] = (512,)
        if name.endswith(NORMS):
            for vector in ("bias", "running_mean", "running_var"):
                shapes[f"{name}.{vector}"] = shapes[f"{name}.weight"]
            shapes[f"{name}.num_batches_tracked"] = ()
    return shapes


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_iresnet18_has_the_published_names_and_shapes() -> None:
    model = build_backbone("iresnet18", 512)
    assert shapes_of(model) == published_shapes()
    fixed = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert fixed == ["features.weight"]


@pytest.mark.parametrize(
    ("name", "blocks"), [("iresnet34", (3, 4, 6, 3)), ("iresnet50", (3, 4, 14, 3))]
)
def test_deeper_ones_repeat_a_layers_second_block(name: str, blocks: tuple[int, ...]) -> None:
    expected = published_shapes()
    for layer, count in enumerate(blocks, 1):
        second = f"layer{layer}.1."
        for place in range(2, count):
            for entry, shape in published_shapes().items():
                if entry.startswith(second):
                    expected[entry.replace(second, f"layer{layer}.{place}.")] = shape
    assert shapes_of(build_backbone(name, 512)) == expected


def test_iresnet_takes_other_crops_and_leaves_112_px_as_they_are() -> None:
    model = build_backbone("iresnet18", 8).eval()
    with torch.no_grad():
        for crop_px in (64, 112):
            rows = model(torch.rand(2, 3, crop_px, crop_px))
            torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))
        grid = torch.rand(2, 512, 7, 7)
        assert torch.equal(model.get_submodule("pool")(grid), grid)


def iresnet_rows(state: dict[str, torch.Tensor], faces: torch.Tensor) -> torch.Tensor:
    """Compute the published network from its weights alone, module by module as it is drawn."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{vector}"].reshape(-1, *[1] * (x.ndim - 2))
            for vector in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def block(name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        inner = norm(f"{name}.bn1", x)
        inner = functional.conv2d(inner, state[f"{name}.conv1.weight"], padding=1)
        inner = norm(f"{name}.bn2", inner)
        inner = functional.prelu(inner, state[f"{name}.prelu.weight"])
        inner = functional.conv2d(inner, state[f"{name}.conv2.weight"], stride=stride, padding=1)
        inner = norm(f"{name}.bn3", inner)
        if f"{name}.downsample.0.weight" in state:
            x = functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
            x = norm(f"{name}.downsample.1", x)
        return inner + x

    x = functional.conv2d(faces, state["conv1.weight"], padding=1)
    x = functional.prelu(norm("bn1", x), state["prelu.weight"])
    for layer in range(1, 5):
        x = block(f"layer{layer}.0", x, stride=2)
        x = block(f"layer{layer}.1", x, stride=1)
    x = norm("bn2", x).flatten(1)
    x = norm("features", functional.linear(x, state["fc.weight"], state["fc.bias"]))
    return x / x.square().sum(dim=1, keepdim=True).sqrt()


def test_iresnet18_computes_what_its_weights_were_trained_for() -> None:
    generator = torch.Generator().manual_seed(0)
    model = build_backbone("iresnet18", 8).eval()
    state = model.state_dict()
    for name, value in state.items():
        if value.ndim == 1:  # statistics, and weights of norms and activations
            value.copy_(torch.rand(value.shape, generator=generator) + 0.25)
            if name.endswith(("bias", "running_mean", "prelu.weight")):
                value.sub_(0.75)
    faces = torch.rand(2, 3, 112, 112, generator=generator) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(model(faces), iresnet_rows(state, faces), atol=1e-5, rtol=1e-4)


def test_compact_returns_unit_rows() -> None:
    rows = build_backbone("compact", 8).eval()(torch.rand(3, 3, 48, 48))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))


def test_every_configured_backbone_can_be_built() -> None:
    assert BACKBONES == get_args(Backbone)
    for name in BACKBONES:
        build_backbone(name, 4)
