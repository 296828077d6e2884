"""Who embeds and who searches for a refresh: this process, or others that do it for it.

A refresh is the same whoever does its work: `Executors` name the two parts of it that can be shared
out. `actors.pool` makes executors of Ray actors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from facequarry.datasets.faces.store import FaceStore
from facequarry.miner.core.pace import Pace
from facequarry.miner.refresh.recipe import Recipe
from facequarry.trainer.batch.augment import augment, generation_seed
from facequarry.trainer.network.embed import embed

if TYPE_CHECKING:  # heavy: numba
    from facequarry.miner.engines.opening import OpenEngine

Embed = Callable[[Recipe, nn.Module, FaceStore, npt.NDArray[np.int64]], npt.NDArray[np.float32]]


def embed_faces(
    recipe: Recipe, model: nn.Module, store: FaceStore, face_indices: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Embed faces as a recipe says.

    Blocks that are whole batches of `network.embed` give the same bytes apart as together.

    Args:
        recipe: device and augmentation are read.
        model: the backbone with the recipe's weights.
        store: the recipe's snapshot.
        face_indices: (N,) int64.

    Returns:
        (N, D) float32 unit rows.
    """
    device = recipe.config.device
    pace = Pace("embed", "faces")
    # A GPU library may otherwise choose another algorithm each time, and other roundings with it.
    with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
        return embed(
            model.to(device),
            store,
            face_indices,
            device=device,
            change=changes(recipe),
            on_progress=lambda done: pace.reach(done, len(face_indices)),
        )


def changes(
    recipe: Recipe,
) -> Callable[[torch.Tensor, npt.NDArray[np.int64]], torch.Tensor] | None:
    """Return what changes faces as training will when it consumes the generation."""
    if recipe.augmentation is None:
        return None
    seed = generation_seed(recipe.seed)
    return lambda faces, face_indices: augment(faces, face_indices, recipe.augmentation, seed=seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Executors:
    """The two parts of a refresh that can be shared out; by default nothing is."""

    embed: Embed = field(default=embed_faces)
    """As `embed_faces`, with the same bytes."""
    open_engine: OpenEngine | None = None
    """What `mine` opens in place of its own exact engine, with the same answers."""


HERE = Executors()
"""This process does everything."""
