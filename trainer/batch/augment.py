"""Faces changed a little in training, by the same rule wherever and whenever a face is met.

Every change is a pure function of a seed and the face's face_index: a resumed run repeats it, and
neither the rank a face lies on nor the rest of its batch matters. The seed is (run seed, step), or
that of a generation whose faces were changed before they were mined: mirroring faces takes half of
the rows out of their band, so what is mined has to be what is trained on (docs/results.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from facequarry.trainer.config import Augmentation

UintArray = npt.NDArray[np.uint64]

_JITTER_STREAM = 1
_GENERATION = 2**32  # in the place of a step, and no step


def augment(
    faces: torch.Tensor,
    face_indices: npt.NDArray[np.int64],
    augmentation: Augmentation | None,
    *,
    seed: tuple[int, int],
) -> torch.Tensor:
    """Mirror and shift (B, 3, H, W) faces as configured.

    Args:
        faces: what a backbone would take.
        face_indices: (B,) int64, the face_index of each.
        augmentation: None leaves them as they are.
        seed: (run seed, step), or `generation_seed`.
    """
    if augmentation is None:
        return faces
    if augmentation.flip:
        faces = flip_some(faces, face_indices, seed=seed)
    if augmentation.jitter_px:
        faces = shift(faces, face_indices, jitter_px=augmentation.jitter_px, seed=seed)
    return faces


def generation_seed(seed: int) -> tuple[int, int]:
    """Return the seed for the faces of a generation whose own seed is `seed`."""
    return (seed, _GENERATION)


def flip_some(
    faces: torch.Tensor, face_indices: npt.NDArray[np.int64], *, seed: tuple[int, int]
) -> torch.Tensor:
    """Mirror each of the (B, 3, H, W) faces left to right with probability 1/2."""
    mirrored = np.flatnonzero(_draws(face_indices, seed) >> np.uint64(63))
    chosen = torch.from_numpy(mirrored).to(faces.device)
    flipped = faces.clone()  # only the chosen ones are moved: half the memory traffic of a choice
    flipped[chosen] = faces[chosen].flip(3)
    return flipped


def shift(
    faces: torch.Tensor,
    face_indices: npt.NDArray[np.int64],
    *,
    jitter_px: int,
    seed: tuple[int, int],
) -> torch.Tensor:
    """Move each of the (B, 3, H, W) faces by -jitter_px to jitter_px in x and in y.

    What moves in from outside repeats the edge: a crop of the face's size, from the face with its
    edges drawn out.
    """
    draws = _draws(face_indices, (*seed, _JITTER_STREAM))
    choices = np.uint64(2 * jitter_px + 1)
    down, right = (
        torch.from_numpy((half % choices).astype(np.int64) - jitter_px)
        for half in (draws >> np.uint64(32), draws & np.uint64(0xFFFFFFFF))
    )
    height, width = faces.shape[2:]
    rows = (torch.arange(height) + down[:, None]).clamp(0, height - 1).to(faces.device)
    columns = (torch.arange(width) + right[:, None]).clamp(0, width - 1).to(faces.device)
    face = torch.arange(len(faces), device=faces.device)[:, None, None, None]
    channel = torch.arange(faces.shape[1], device=faces.device)[None, :, None, None]
    moved = faces[face, channel, rows[:, None, :, None], columns[:, None, None, :]]
    return torch.empty_like(faces).copy_(moved)  # the same memory layout, which a GPU needs


def _draws(face_indices: npt.NDArray[np.int64], seed: tuple[int, ...]) -> UintArray:
    """Return (B,) evenly spread 64-bit numbers, one for each face."""
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    # Two multiplicative mixes of a keyed counter; the low bits of a product are weaker than the
    # high ones, so they are folded in at the end.
    mixed = (face_indices.astype(np.uint64) ^ key) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    folded: UintArray = mixed ^ (mixed >> np.uint64(32))
    return folded
