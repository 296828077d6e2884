"""A step or weights that are no numbers end a run before they can be built upon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from facequarry.datasets.disk.errors import Failure
from facequarry.trainer.batch.batches import Batch
from facequarry.trainer.world import World

_NAMED_FACES = 5
_ADVICE = (
    "the checkpoints before it are kept; start a new run with a lower trainer.learning-rate or "
    "with trainer.warmup-steps"
)


class NotFinite(Failure, FloatingPointError):
    """A step or weights are no numbers; the message names where that came from."""


def gradient_norm(model: nn.Module) -> torch.Tensor:
    """Return the L2 norm over all gradients, a scalar: not finite if any of them is not."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def is_finite_step(figures: dict[str, float]) -> bool:
    """Say whether a step may be taken, from its figures over all ranks: the same on every rank."""
    is_finite = np.isfinite([figures["loss_d2"], figures["grad_norm"]]).all()
    return bool(is_finite) and not figures["num_not_finite"]


def non_finite_step(
    world: World, batch: Batch, embeddings: torch.Tensor, figures: dict[str, float]
) -> NotFinite:
    """Return the error of a step that must not be taken: it names where it came from and faces.

    Every rank calls it and names the same bad faces, whichever rank has them: rank 0's error is the
    one that is shown. Where no embedding is bad, a rank can only name what it trained on.
    """
    is_bad = ~torch.isfinite(embeddings.detach()).all(dim=1).cpu().numpy()
    gathered = world.gather(batch.face_indices[is_bad].tolist())
    bad = sorted({face for faces in gathered for face in faces})
    which = (
        f"{round(figures['num_not_finite'])} of {round(figures['num_faces'])} embeddings are not "
        f"finite, faces {_listed(bad)}"
        if bad
        else f"its embeddings are finite, faces {_listed(batch.face_indices.tolist())} on rank "
        f"{world.rank}"
    )
    return NotFinite(
        f"step {batch.step} ({_origin(batch)}) has loss {figures['loss_d2']:g} and gradient norm "
        f"{figures['grad_norm']:g}; {which}; the weights were not changed; {_ADVICE}"
    )


def _origin(batch: Batch) -> str:
    if batch.triplets is None:
        return "triplets found in the batch"
    return "random rows" if batch.generation is None else f"generation {batch.generation}"


def _listed(faces: Sequence[int]) -> str:
    more = ", ..." if len(faces) > _NAMED_FACES else ""
    return ", ".join(map(str, faces[:_NAMED_FACES])) + more


def check_finite(model: nn.Module, step: int) -> None:
    """Refuse to publish weights that are no numbers: every resume and refresh would fail on them.

    Raises:
        NotFinite: a parameter or statistic is NaN or infinite; the first is named.
    """
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise NotFinite(f"{name} is not finite at step {step}; {_ADVICE}")
