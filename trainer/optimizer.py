"""The optimizer of a run, and its learning rate as a pure function of the step.

A resumed run needs no state of a schedule: the step says everything.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from facequarry.trainer.config import TrainerConfig


def build_optimizer(config: TrainerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Build the configured optimizer over the parameters that are trained."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(trained, lr=rate, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(trained, lr=rate, weight_decay=decay)
        case "sgd":
            momentum = config.momentum
            return torch.optim.SGD(trained, lr=rate, momentum=momentum, weight_decay=decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group of parameters this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def learning_rate(config: TrainerConfig, step: int) -> float:
    """Return the learning rate of the step that follows `step` completed ones.

    It grows linearly over the first `warmup_steps`, reaching its full value with the last of them.
    Then it stays (`constant`), falls along half a cosine to 0 at `steps` (`cosine`; Loshchilov and
    Hutter 2017, equation 5, without restarts), or is multiplied by `milestone_factor` at each of
    `milestones` (`milestones`).
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    match config.schedule:
        case "constant":
            factor = 1.0
        case "cosine":
            done = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
            factor = 0.5 * (1 + math.cos(math.pi * done))
        case "milestones":
            passed = sum(step >= milestone for milestone in config.milestones)
            factor = config.milestone_factor**passed
    return config.learning_rate * factor
