from __future__ import annotations

import torch

from trainer.backbones import build_backbone
from trainer.batch_norm import calibrate, training_mode

FACES = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_calibrated_statistics_are_those_of_the_faces() -> None:
    model = build_backbone("compact", 8)
    calibrate(model, FACES)
    with torch.no_grad():
        seen = model.get_submodule("features.0")(FACES)
    torch.testing.assert_close(model.state_dict()["features.1.running_mean"], seen.mean((0, 2, 3)))
    torch.testing.assert_close(model.state_dict()["features.1.running_var"], seen.var((0, 2, 3)))


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
