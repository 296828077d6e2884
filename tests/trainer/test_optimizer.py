from __future__ import annotations

from typing import Any

import pytest
import torch

from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.network.backbones import build_backbone
from facequarry.trainer.optimizer import build_optimizer, learning_rate, set_learning_rate


def rates(**values: Any) -> list[float]:
    config = TrainerConfig(steps=10, learning_rate=1.0, **values)
    return [learning_rate(config, step) for step in range(10)]


def test_a_constant_rate_is_reached_with_the_last_step_of_the_warm_up() -> None:
    assert rates() == [1.0] * 10
    assert rates(warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, *[1.0] * 6]


def test_a_cosine_falls_from_the_warm_up_to_the_end_as_torch_has_it() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
    expected = []
    for _ in range(8):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(schedule="cosine", warmup_steps=2) == pytest.approx([0.5, 1.0, *expected])


def test_milestones_multiply_the_rate() -> None:
    assert rates(schedule="milestones", milestones=(3, 7), milestone_factor=0.5) == [
        *[1.0] * 3,
        *[0.5] * 4,
        *[0.25] * 3,
    ]


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_each_optimizer_takes_its_settings_and_leaves_fixed_parameters(name: Any) -> None:
    config = TrainerConfig(optimizer=name, learning_rate=0.5, weight_decay=0.25, momentum=0.75)
    model = build_backbone("iresnet18", 4)
    optimizer = build_optimizer(config, model)
    (group,) = optimizer.param_groups
    assert type(optimizer).__name__.lower() == name
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert group.get("momentum", 0.75) == 0.75
    assert len(group["params"]) == len(list(model.parameters())) - 1
    set_learning_rate(optimizer, 0.125)
    assert group["lr"] == 0.125


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0, it must be positive"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"momentum": 1.0}, "momentum is 1.0, it must be 0 or more and below 1"),
        ({"warmup_steps": 400}, "warmup_steps is 400, it must be below trainer.steps 400"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"jitter_px": -1}, "jitter_px is -1"),
        ({"faces_per_identity": 1}, "faces_per_identity is 1"),
        ({"milestone_factor": 0.0}, "milestone_factor is 0.0"),
        ({"schedule": "milestones", "milestones": (5, 5)}, "ascending"),
        ({"schedule": "milestones"}, "milestones belong to the schedule of that name"),
        (
            {"selection": "online_semi_hard", "batch": 514, "workers": 2},
            "among 771 faces, .* at most 768 .* lower trainer.batch to 512 or raise",
        ),
        ({"milestones": (5,)}, "milestones belong to the schedule of that name"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainerConfig(**values)
