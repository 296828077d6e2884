"""Faces to embeddings with one checkpoint's weights: what mining and evaluation start from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from facequarry.datasets.faces.store import FaceStore

_BATCH = 128  # fixed, so that the same faces always meet the same arithmetic


def to_input(images: npt.NDArray[np.uint8], device: str) -> torch.Tensor:
    """Turn (B, H, W, 3) uint8 RGB into the (B, 3, H, W) float32 in [-1, 1] a backbone takes."""
    faces = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    if device.startswith("cuda"):
        faces = faces.contiguous(memory_format=torch.channels_last)
    return faces.float().div_(127.5).sub_(1)


def embed(
    model: nn.Module,
    store: FaceStore,
    face_indices: npt.NDArray[np.int64],
    *,
    device: str = "cpu",
    change: Callable[[torch.Tensor, npt.NDArray[np.int64]], torch.Tensor] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Embed faces.

    Args:
        model: a backbone in evaluation mode.
        store: where the crops are read.
        face_indices: (N,) int64.
        device: where the model lies.
        change: changes (B, 3, H, W) faces, told their face_index, before the model sees them.
        on_progress: told the number of faces embedded so far.

    Returns:
        (N, D) float32 unit rows.
    """
    rows: list[npt.NDArray[np.float32]] = []
    with torch.inference_mode():
        for start in range(0, len(face_indices), _BATCH):
            chunk = face_indices[start : start + _BATCH]
            faces = to_input(store.decode(chunk), device)
            if change is not None:
                faces = change(faces, chunk)
            rows.append(model(faces).cpu().numpy())
            if on_progress is not None:
                on_progress(min(start + _BATCH, len(face_indices)))
    return np.concatenate(rows)
