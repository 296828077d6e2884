"""The training loop, whole, without Ray: lease, fetch, embed, loss, step, log, publish.

`trainer/ray_train.py` runs it on n workers; a test calls it in one process.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import nn

from datasets.faces import FaceStore
from datasets.run_dir import RunDir
from datasets.triplets import TripletSource
from trainer.backbones import build_backbone
from trainer.batches import Batch, RandomTriplets, RowReader, assemble
from trainer.checkpoint import (
    abandon_unverified,
    load_trainer_state,
    load_weights,
    newest_verified_step,
    publish_checkpoint,
)
from trainer.config import TrainerConfig
from trainer.embed import to_input
from trainer.losses import triplet_loss
from trainer.prefetch import Prefetch
from trainer.retention import prune_checkpoints
from trainer.step_log import StepLog
from trainer.world import World

BATCH_TIMEOUT_S = 900.0
CALIBRATION_TRIPLETS = 128


def train(
    config: TrainerConfig,
    *,
    run: RunDir,
    store: FaceStore,
    source: TripletSource,
    random: RandomTriplets,
    world: World,
    margin: float,
    seed: int,
    log: StepLog,
) -> int:
    """Train from the newest checkpoint that verifies up to `config.steps`; return that step.

    Args:
        config: network, batch, optimizer, checkpoints.
        run: where checkpoints are published and generations read.
        store: the faces' crops.
        source: answers with each step's lease.
        random: draws the rows of leases that name no generation.
        world: this process's rank; only rank 0 publishes and logs.
        margin: of the triplet loss, squared L2; the miner's.
        seed: of the initial weights, the augmentation and the random triplets.
        log: takes each step's figures on rank 0.

    Raises:
        TimeoutError: no batch came within BATCH_TIMEOUT_S.
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
        if world.rank == 0:
            started = time.perf_counter()
            publish_checkpoint(
                run,
                step,
                model,
                backbone=config.backbone,
                embedding_dim=config.embedding_dim,
                crop_px=store.crop_px,
                trainer_state={"optimizer": optimizer.state_dict()},
            )
            prune_checkpoints(run, keep=config.keep_checkpoints)
            log.checkpoint(step, seconds=time.perf_counter() - started)

    if world.rank == 0:
        abandon_unverified(run)
    found = newest_verified_step(run) if world.rank == 0 else None
    step = world.from_rank_0(-1 if found is None else found)
    if step < 0:
        step = 0
        first_faces = np.unique(random.rows(0, CALIBRATION_TRIPLETS))
        calibrate(model, to_input(store.decode(first_faces), world.device))
        publish(step)
    else:
        load_weights(model, run.checkpoint(step))
        optimizer.load_state_dict(load_trainer_state(run.checkpoint(step))["optimizer"])
    log.start(step, world_size=world.size)

    reader = RowReader(run, random)

    def make(step: int) -> Batch:
        lease = source.lease(step)
        return assemble(lease, reader, store, rank=world.rank, world_size=world.size)

    replicas = world.wrap(model.train())
    ended = time.perf_counter()
    with Prefetch(
        make, range(step, config.steps), depth=config.prefetch, timeout_s=BATCH_TIMEOUT_S
    ) as batches:
        for batch in batches:
            began, arrived = ended, time.perf_counter()
            faces = to_input(batch.images, world.device)
            if config.flip:
                faces = flip_some(faces, seed=(seed, step, world.rank))
            with torch.autocast(world.device.split(":")[0], torch.bfloat16, enabled=on_gpu):
                embeddings = replicas(faces)
            triplets = torch.from_numpy(batch.triplets).to(world.device)
            result = triplet_loss(embeddings, triplets, margin=margin)
            optimizer.zero_grad(set_to_none=True)
            result.loss.backward()
            optimizer.step()

            figures = world.mean(log.figures(result, num_faces=len(faces), num_rows=len(triplets)))
            if not math.isfinite(float(figures[0])):
                raise FloatingPointError(
                    f"the loss of step {step} is {float(figures[0])}; lower trainer.learning-rate, "
                    f"then resume from checkpoint {newest_verified_step(run)} with --resume"
                )
            ended = time.perf_counter()
            log.step(batch, figures, wait_s=arrived - began, step_s=ended - began)
            step += 1
            if step % config.checkpoint_every == 0 or step == config.steps:
                publish(step)
    log.close()
    return step


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


def flip_some(faces: torch.Tensor, *, seed: tuple[int, int, int]) -> torch.Tensor:
    """Mirror each of the (B, 3, H, W) faces left to right with probability 1/2.

    A pure function of (run seed, step, rank), so that a resumed run repeats it.
    """
    generator = torch.Generator().manual_seed(hash(seed) & 0x7FFFFFFFFFFFFFFF)
    flipped = torch.rand(len(faces), generator=generator) < 0.5
    return torch.where(flipped.to(faces.device)[:, None, None, None], faces.flip(3), faces)
