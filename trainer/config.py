"""What a trainer can be told. Light: imports no torch, so that reading a run file is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Backbone = Literal["compact"]
Selection = Literal["mined", "random", "online_semi_hard"]
BACKBONES: tuple[Backbone, ...] = ("compact",)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """One training run: network, batch, optimizer, checkpoints."""

    backbone: Backbone = "compact"
    """Network from (B, 3, H, W) faces to (B, D) unit rows."""
    embedding_dim: int = 64
    """D, the length of an embedding."""
    selection: Selection = "mined"
    """Where triplets come from: mined generations, drawn at random from (seed, step), or the
    semi-hard ones that each step finds among its own faces."""
    faces_per_identity: int = 4
    """Most faces of one identity in a step of `online_semi_hard`, which embeds at most 3 `batch`
    faces: as many as `batch` random triplets that share none."""
    steps: int = 400
    """Optimizer steps of the whole run."""
    batch: int = 64
    """B, triplets a step over all ranks; a multiple of `workers`."""
    workers: int = 1
    """Training processes (ranks); each takes one CPU, or one GPU where `use_gpu` is set."""
    use_gpu: bool = False
    """Train on GPUs, with bf16 and channels_last; NCCL between the ranks."""
    learning_rate: float = 1e-3
    """Adam's learning rate."""
    weight_decay: float = 1e-4
    """Decoupled weight decay (AdamW)."""
    flip: bool = True
    """Mirror each face left to right with probability 1/2."""
    checkpoint_every: int = 50
    """N, steps between published checkpoints; each one starts a refresh."""
    keep_checkpoints: int = 3
    """Newest checkpoints kept, beside step 0 and those that a live generation names."""
    prefetch: int = 2
    """Batches prepared ahead, and steps granted at a time by the triplet queue."""
    threads: int = 1
    """CPU threads of one rank."""
    max_failures: int = 3
    """How often a lost group of workers is brought back before the run fails."""

    def __post_init__(self) -> None:
        at_least = {
            "embedding_dim": 2,
            "steps": 1,
            "batch": 1,
            "faces_per_identity": 2,
            "workers": 1,
            "checkpoint_every": 1,
            "keep_checkpoints": 1,
            "prefetch": 1,
            "threads": 1,
            "max_failures": 0,
        }
        for name, low in at_least.items():
            if getattr(self, name) < low:
                raise ValueError(
                    f"trainer.{name} is {getattr(self, name)}, it must be {low} or more"
                )
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(
                f"trainer.learning_rate is {self.learning_rate}, it must be positive and finite"
            )
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(
                f"trainer.weight_decay is {self.weight_decay}, it must be 0 or more and finite"
            )
        if self.batch % self.workers:
            raise ValueError(
                f"trainer.batch is {self.batch} and trainer.workers is {self.workers}: "
                "the batch must divide over the workers"
            )
        if (
            self.selection == "online_semi_hard"
            and 3 * self.batch < 2 * self.workers * self.faces_per_identity
        ):
            raise ValueError(
                f"trainer.batch is {self.batch}, so a step has {3 * self.batch} faces: fewer than "
                f"two identities of trainer.faces_per_identity {self.faces_per_identity} for each "
                f"of {self.workers} workers"
            )
