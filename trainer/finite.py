"""A step or weights that are no numbers end a run before they can be built upon."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from trainer.batches import Batch

_NAMED_FACES = 5
_ADVICE = (
    "the checkpoints before it are kept; start a new run with a lower trainer.learning-rate or "
    "with trainer.warmup-steps"
)


def gradient_norm(model: nn.Module) -> torch.Tensor:
    """Return the L2 norm over all gradients, a scalar: not finite if any of them is not."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def is_finite_step(figures: dict[str, float]) -> bool:
    """Say whether a step may be taken, from its figures over all ranks: the same on every rank."""
    is_finite = np.isfinite([figures["loss_d2"], figures["grad_norm"]]).all()
    return bool(is_finite) and not figures["num_not_finite"]


def non_finite_step(
    batch: Batch, embeddings: torch.Tensor, figures: dict[str, float]
) -> FloatingPointError:
    """Return the error of a step that must not be taken: it names generation and faces."""
    bad = ~torch.isfinite(embeddings.detach()).all(dim=1).cpu().numpy()
    faces = batch.face_indices[bad] if bad.any() else batch.face_indices
    listed = ", ".join(map(str, faces[:_NAMED_FACES])) + (
        ", ..." if len(faces) > _NAMED_FACES else ""
    )
    rows = "random rows" if batch.generation is None else f"generation {batch.generation}"
    which = (
        f"{len(faces)} of this rank's {len(bad)} embeddings are not finite"
        if bad.any()
        else f"this rank's {len(bad)} embeddings are finite"
    )
    return FloatingPointError(
        f"step {batch.step} ({rows}) has loss {figures['loss_d2']:g} and gradient norm "
        f"{figures['grad_norm']:g}; {which}, faces {listed}; the weights were not changed; "
        f"{_ADVICE}"
    )


def check_finite(model: nn.Module, step: int) -> None:
    """Refuse to publish weights that are no numbers: every resume and refresh would fail on them.

    Raises:
        FloatingPointError: a parameter or statistic is NaN or infinite; the first is named.
    """
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise FloatingPointError(f"{name} is not finite at step {step}; {_ADVICE}")
