"""The training loop, whole, without Ray: lease, fetch, embed, loss, step, log, publish.

`trainer/ray_train.py` runs it on n workers; a test calls it in one process.
"""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from datasets.run_dir import RunDir
from datasets.triplets import TripletSource
from trainer.backbones import build_backbone
from trainer.batches import Batch, RandomTriplets, RowReader, assemble, assemble_faces
from trainer.checkpoint import (
    abandon_unverified,
    load_trainer_state,
    load_weights,
    newest_verified_step,
    publish_checkpoint,
)
from trainer.config import TrainerConfig
from trainer.embed import to_input
from trainer.faces import RunFaces
from trainer.losses import triplet_loss
from trainer.online import IdentityBatches, semi_hard_in_batch
from trainer.prefetch import Prefetch
from trainer.retention import prune_checkpoints
from trainer.step_log import StepLog
from trainer.world import World

CALIBRATION_TRIPLETS = 128


def train(
    config: TrainerConfig,
    *,
    run: RunDir,
    faces: RunFaces,
    source: TripletSource,
    random: RandomTriplets,
    world: World,
    margin: float,
    seed: int,
    log: StepLog,
    online: IdentityBatches | None = None,
    batch_timeout_s: float = 900.0,
) -> int:
    """Train from the newest checkpoint that verifies up to `config.steps`; return that step.

    Args:
        config: network, batch, optimizer, checkpoints.
        run: where checkpoints are published and generations read.
        faces: the crops; moves on to newer snapshots as generations name them.
        source: answers with each step's lease.
        random: draws the rows of leases that name no generation.
        world: this process's rank; only rank 0 publishes and logs.
        margin: of the triplet loss, squared L2; the miner's.
        seed: of the initial weights, the augmentation and the random triplets.
        log: takes each step's figures on rank 0.
        online: draws the faces of steps that find their own triplets; None where leases name rows.
        batch_timeout_s: longest wait for one batch; longer than the source's own.

    Raises:
        TimeoutError: no batch came within `batch_timeout_s`.
        FloatingPointError: the loss stopped being a number; the newest checkpoint is from before.
        CheckpointMismatch: the newest checkpoint belongs to another backbone.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(seed)
    on_gpu = world.device.startswith("cuda")
    layout = torch.channels_last if on_gpu else torch.contiguous_format
    model = build_backbone(config.backbone, config.embedding_dim)
    model = model.to(device=torch.device(world.device), memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )

    def publish(step: int) -> None:
        check_finite(model, step)
        if world.rank == 0:
            started = time.perf_counter()
            publish_checkpoint(
                run,
                step,
                model,
                backbone=config.backbone,
                embedding_dim=config.embedding_dim,
                crop_px=faces.crop_px,
                trainer_state={"optimizer": optimizer.state_dict()},
            )
            deleted = prune_checkpoints(run, keep=config.keep_checkpoints)
            log.checkpoint(step, seconds=time.perf_counter() - started, deleted_steps=deleted)

    step = newest_step(run, world)
    if step is None:
        step = 0
        first_faces = np.unique(random.rows(0, CALIBRATION_TRIPLETS))
        calibrate(model, to_input(faces.store.decode(first_faces), world.device))
        publish(step)
    else:
        load_weights(model, run.checkpoint(step))
        optimizer.load_state_dict(load_trainer_state(run.checkpoint(step))["optimizer"])
    log.start(step, world_size=world.size)

    reader = RowReader(run, random, faces)

    def make(step: int) -> Batch:
        lease = source.lease(step)
        if online:
            drawn = online.faces(step, rank=world.rank, world_size=world.size)
            return assemble_faces(lease, drawn, faces.store)
        return assemble(lease, reader, rank=world.rank, world_size=world.size)

    def publish_if_wanted() -> None:
        if world.rank == 0 and source.wants_checkpoint and step not in run.checkpoint_steps():
            publish(step)

    replicas = world.wrap(model.train())
    ended = time.perf_counter()
    with Prefetch(
        make,
        range(step, config.steps),
        depth=config.prefetch,
        timeout_s=batch_timeout_s,
        while_waiting=publish_if_wanted,
    ) as batches:
        for batch in batches:
            began, arrived = ended, time.perf_counter()
            images = to_input(batch.images, world.device)
            if config.flip:
                images = flip_some(images, batch.face_indices, seed=(seed, step))
            with torch.autocast(world.device.split(":")[0], torch.bfloat16, enabled=on_gpu):
                embeddings = replicas(images)
            triplets = triplets_of(batch, embeddings, margin=margin)
            result = triplet_loss(embeddings, triplets, margin=margin)
            optimizer.zero_grad(set_to_none=True)
            result.loss.backward()
            optimizer.step()

            figures = world.mean(
                log.figures(result, num_faces=len(images), num_triplets=len(triplets))
            )
            if not math.isfinite(float(figures[0])):
                raise FloatingPointError(
                    f"the loss of step {step} is {float(figures[0])}; the checkpoints before it "
                    "are kept; start a new run with a lower trainer.learning-rate"
                )
            step_s = time.perf_counter() - began
            log.step(batch, figures, wait_s=arrived - began, step_s=step_s)
            step += 1
            if step % config.checkpoint_every == 0 or step == config.steps:
                publish(step)
            ended = time.perf_counter()  # publishing is no waiting for data
    log.close()
    return step


def triplets_of(batch: Batch, embeddings: torch.Tensor, *, margin: float) -> torch.Tensor:
    """Return (T, 3) rows of `embeddings`: those that the batch names, or those found among them."""
    if batch.triplets is not None:
        return torch.from_numpy(batch.triplets).to(embeddings.device)
    identities = torch.from_numpy(batch.identities).to(embeddings.device)
    return semi_hard_in_batch(embeddings, identities, margin=margin)


def newest_step(run: RunDir, world: World) -> int | None:
    """Return the step to go on from, which rank 0 picks; None where the run has no checkpoint."""
    found = None
    if world.rank == 0:
        abandon_unverified(run)
        found = newest_verified_step(run)
    step = world.from_rank_0(-1 if found is None else found)
    return None if step < 0 else step


def check_finite(model: nn.Module, step: int) -> None:
    """Refuse to publish weights that are no numbers: every resume and refresh would fail on them.

    Raises:
        FloatingPointError: a parameter or statistic is NaN or infinite; the first is named.
    """
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise FloatingPointError(
                f"{name} is not finite at step {step}; the checkpoints before it are kept; start "
                "a new run with a lower trainer.learning-rate"
            )


def calibrate(model: nn.Module, faces: torch.Tensor) -> None:
    """Set every batch normalisation's running statistics from (B, 3, H, W) faces.

    A fresh network's statistics are 0 and 1, which no face has: the checkpoint of step 0, which
    the first refresh mines and results are compared with, would not be the untrained network.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momentums = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of this batch
    with torch.no_grad():
        model.train()(faces)
    for norm, momentum in zip(norms, momentums, strict=True):
        norm.momentum = momentum


def flip_some(
    faces: torch.Tensor, face_indices: npt.NDArray[np.int64], *, seed: tuple[int, int]
) -> torch.Tensor:
    """Mirror each of the (B, 3, H, W) faces left to right with probability 1/2.

    A pure function of (run seed, step) and each face's face_index: a resumed run repeats it, and
    it does not matter which rank a face lies on.
    """
    key = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    # One multiplicative mix a face: the high bit of an odd multiple of a keyed counter.
    mixed = (face_indices.astype(np.uint64) ^ key) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    flipped = torch.from_numpy((mixed >> np.uint64(63)).astype(bool)).to(faces.device)
    return torch.where(flipped[:, None, None, None], faces.flip(3), faces)
