"""What a trainer can be told. Light: imports no torch, so that reading a run file is quick."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from facequarry.datasets.disk.errors import BadInput

Backbone = Literal["compact", "iresnet18", "iresnet34", "iresnet50"]
Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["constant", "cosine", "milestones"]
Selection = Literal["mined", "random", "online_semi_hard"]
# The search within a batch marks every triple of its faces in a byte: 453 MB, and copies of it.
MOST_FACES_IN_BATCH = 768
BACKBONES: tuple[Backbone, ...] = ("compact", "iresnet18", "iresnet34", "iresnet50")


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How faces are changed before the network sees them (`batch.augment`).

    Attributes:
        flip: mirror each left to right with probability 1/2.
        jitter_px: shift each by up to this many pixels in x and y.
    """

    flip: bool
    jitter_px: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """One training run: network, batch, optimizer, checkpoints."""

    backbone: Backbone = "compact"
    """Network from (B, 3, H, W) faces to (B, D) unit rows; the iresnets are published for crops of
    112 px and 512 dimensions and take others."""
    embedding_dim: int = 64
    """D, the length of an embedding."""
    init_from: Path | None = None
    """Weights that a new run starts from: a checkpoint's folder, or a .safetensors, .pt or .pth
    file; None starts from random ones."""
    selection: Selection = "mined"
    """Where triplets come from: mined generations, drawn at random from (seed, step), or the
    semi-hard ones that each step finds among its own faces."""
    add_in_batch: bool = False
    """Beside the rows that are mined, or drawn at random, train on all semi-hard triplets that
    the step finds among their faces: the same faces embedded, many more triplets. Each rank
    searches its own faces; the logged figures are those of the rows."""
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
    optimizer: Optimizer = "adamw"
    """What turns gradients into steps: Adam with decoupled weight decay, Adam, or plain descent
    with `momentum`."""
    learning_rate: float = 1e-3
    """Full learning rate, before `schedule` and `warmup_steps`."""
    weight_decay: float = 1e-4
    """Weight decay: decoupled for `adamw`, part of the gradient for `adam` and `sgd`."""
    momentum: float = 0.9
    """Momentum of `sgd`, from 0 up to but not including 1."""
    schedule: Schedule = "constant"
    """Learning rate over the steps: as it is, half a cosine down to 0 at `steps`, or falling at
    `milestones`."""
    warmup_steps: int = 0
    """Steps over which the learning rate grows to its full value."""
    milestones: tuple[int, ...] = ()
    """Steps, ascending, at which `milestones` multiplies the learning rate."""
    milestone_factor: float = 0.1
    """What the learning rate is multiplied by at each milestone, above 0 and at most 1."""
    flip: bool = True
    """Mirror each face left to right with probability 1/2."""
    jitter_px: int = 0
    """Shift each face by up to this many pixels in x and y, its edge drawn out; 0 shifts none."""
    freeze_batch_norm: bool = False
    """Normalise by the running statistics in training too, and leave them as they are; a run that
    starts from random weights keeps those of its first faces."""
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
            "warmup_steps": 0,
            "jitter_px": 0,
        }
        for name, low in at_least.items():
            if getattr(self, name) < low:
                raise BadInput(f"trainer.{name} is {getattr(self, name)}, it must be {low} or more")
        self._check_optimizer()
        self._check_selection()
        if self.batch % self.workers:
            raise BadInput(
                f"trainer.batch is {self.batch} and trainer.workers is {self.workers}: "
                "the batch must divide over the workers"
            )
        if self.selection == "online_semi_hard" or self.add_in_batch:
            self._check_in_batch()

    def _check_in_batch(self) -> None:
        faces_per_rank = 3 * self.batch // self.workers
        if faces_per_rank > MOST_FACES_IN_BATCH:
            raise BadInput(
                f"trainer.batch is {self.batch}, so each of {self.workers} workers looks for "
                f"triplets among {faces_per_rank} faces, whose cube its memory has to hold; at "
                f"most {MOST_FACES_IN_BATCH} faces each are searched: lower trainer.batch to "
                f"{MOST_FACES_IN_BATCH // 3 * self.workers} or raise trainer.workers"
            )
        is_drawn = self.selection == "online_semi_hard"
        if is_drawn and 3 * self.batch < 2 * self.workers * self.faces_per_identity:
            raise BadInput(
                f"trainer.batch is {self.batch}, so a step has {3 * self.batch} faces: fewer than "
                f"two identities of trainer.faces_per_identity {self.faces_per_identity} for each "
                f"of {self.workers} workers"
            )

    @property
    def augmentation(self) -> Augmentation | None:
        """How training changes faces; None where it leaves them as they are."""
        if not self.flip and not self.jitter_px:
            return None
        return Augmentation(flip=self.flip, jitter_px=self.jitter_px)

    def absolute(self) -> TrainerConfig:
        """Return the configuration with absolute paths: Ray's workers have other folders."""
        return replace(self, init_from=self.init_from and self.init_from.resolve())

    def _check_selection(self) -> None:
        if self.add_in_batch and self.selection == "online_semi_hard":
            raise BadInput(
                "trainer.add_in_batch adds to rows, and selection = online_semi_hard has none; "
                "leave out one of them"
            )

    def _check_optimizer(self) -> None:
        ranges = {
            "learning_rate": (0 < self.learning_rate < math.inf, "positive and finite"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or more and finite"),
            "momentum": (0 <= self.momentum < 1, "0 or more and below 1"),
            "milestone_factor": (0 < self.milestone_factor <= 1, "above 0 and at most 1"),
            "warmup_steps": (self.warmup_steps < self.steps, f"below trainer.steps {self.steps}"),
        }
        for name, (is_good, words) in ranges.items():
            if not is_good:
                raise BadInput(f"trainer.{name} is {getattr(self, name)}, it must be {words}")
        if any(low >= high for low, high in pairwise((0, *self.milestones))):
            raise BadInput(
                f"trainer.milestones are {list(self.milestones)}, they must be steps above 0, "
                "ascending"
            )
        if bool(self.milestones) != (self.schedule == "milestones"):
            raise BadInput(
                f"trainer.schedule is {self.schedule} and trainer.milestones are "
                f"{list(self.milestones)}: milestones belong to the schedule of that name"
            )
