from __future__ import annotations

import torch

from facequarry.trainer.network.backbones import build_backbone
from facequarry.trainer.network.batch_norm import calibrate, training_mode

FACES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_calibrated_statistics_are_those_of_the_faces() -> None:
    model = build_backbone("compact", 8)
    calibrate(model, FACES)
    with torch.no_grad():
        seen = model.get_submodule("features.0")(FACES)
    torch.testing.assert_close(model.state_dict()["features.1.running_mean"], seen.mean((0, 2, 3)))
    torch.testing.assert_close(model.state_dict()["features.1.running_var"], seen.var((0, 2, 3)))


def test_many_faces_go_through_in_even_tiles_and_each_weighs_the_same() -> None:
    faces = torch.rand(130, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model = build_backbone("compact", 8)
    first, norm = model.get_submodule("features.0"), model.get_submodule("features.1")
    assert isinstance(norm, torch.nn.BatchNorm2d)
    norm.momentum = 0.25
    sizes: list[int] = []
    first.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    model(faces[:2])  # statistics from before leave no trace
    calibrate(model, faces)
    assert sizes == [2, 44, 43, 43] and norm.momentum == 0.25
    with torch.no_grad():
        tiles = [first(tile) for tile in faces.tensor_split(3)]
    state = model.state_dict()
    for name, of_tiles in (
        ("running_mean", [tile.mean((0, 2, 3)) for tile in tiles]),
        ("running_var", [tile.var((0, 2, 3)) for tile in tiles]),
    ):
        torch.testing.assert_close(state[f"features.1.{name}"], torch.stack(of_tiles).mean(0))


def test_frozen_statistics_stay_and_a_face_does_not_depend_on_its_batch() -> None:
    model = build_backbone("compact", 8)
    calibrate(model, FACES)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training_mode(model, freeze_statistics=True)
    torch.testing.assert_close(model(FACES)[:2], model(FACES[:2]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training

    training_mode(model, freeze_statistics=False)
    model(FACES[:3])
    assert not torch.equal(
        model.state_dict()["features.1.running_mean"], before["features.1.running_mean"]
    )
