from __future__ import annotations

import numpy as np
import torch

from facequarry.trainer.batch.augment import augment, flip_some, shift
from facequarry.trainer.config import Augmentation, TrainerConfig

FACES = torch.rand(64, 3, 12, 10, generator=torch.Generator().manual_seed(0))
NUMBERS = np.arange(64)


def test_flips_mirror_about_half_of_the_faces() -> None:
    flipped = flip_some(FACES, NUMBERS, seed=(0, 5))
    is_flipped = (flipped != FACES).flatten(1).any(dim=1)
    assert 10 < int(is_flipped.sum()) < 54
    assert torch.equal(flipped[is_flipped], FACES[is_flipped].flip(3))


def test_shifts_are_those_of_a_face_with_its_edges_drawn_out() -> None:
    moved = shift(FACES, NUMBERS, jitter_px=2, seed=(0, 5))
    padded = torch.nn.functional.pad(FACES, (2, 2, 2, 2), mode="replicate")
    seen = set()
    for face in range(64):
        offsets = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(padded[face, :, y : y + 12, x : x + 10], moved[face])
        ]
        assert len(offsets) == 1
        seen.update(offsets)
    assert len(seen) > 15  # of 25
    assert {y for y, _ in seen} == {x for _, x in seen} == set(range(5))


def test_a_change_depends_on_seed_step_and_face_alone() -> None:
    def change(faces: torch.Tensor, numbers: np.ndarray, seed: tuple[int, int]) -> torch.Tensor:
        return augment(faces, numbers, Augmentation(flip=True, jitter_px=3), seed=seed)

    whole = change(FACES, NUMBERS, (0, 5))
    assert torch.equal(whole, change(FACES, NUMBERS, (0, 5)))
    assert not torch.equal(whole, change(FACES, NUMBERS, (0, 6)))
    assert not torch.equal(whole, change(FACES, NUMBERS, (1, 5)))
    # Another batch, in another order, as it would lie on another rank.
    chosen = np.array([50, 3, 41])
    assert torch.equal(whole[chosen], change(FACES[chosen], chosen, (0, 5)))


def test_nothing_is_changed_unless_asked() -> None:
    assert augment(FACES, NUMBERS, None, seed=(0, 0)) is FACES
    assert TrainerConfig(flip=False).augmentation is None


def test_the_memory_layout_that_a_gpu_needs_is_kept() -> None:
    faces = FACES.contiguous(memory_format=torch.channels_last)
    moved = shift(faces, NUMBERS, jitter_px=2, seed=(0, 5))
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved, shift(FACES, NUMBERS, jitter_px=2, seed=(0, 5)))
