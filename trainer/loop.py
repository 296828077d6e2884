"""The training loop, whole, without Ray: lease, fetch, embed, loss, step, log, publish.

`trainer/ray_train.py` runs it on n workers; a test calls it in one process.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from facequarry.datasets.generations.triplets import TripletSource
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.augment import augment
from facequarry.trainer.batch.batches import (
    Batch,
    RandomTriplets,
    RowReader,
    assemble,
    assemble_faces,
)
from facequarry.trainer.batch.online import IdentityBatches, semi_hard_in_batch
from facequarry.trainer.batch.prefetch import Prefetch
from facequarry.trainer.batch.run_faces import RunFaces
from facequarry.trainer.checkpoints.checkpoint import publish_checkpoint
from facequarry.trainer.checkpoints.retention import prune_checkpoints
from facequarry.trainer.checkpoints.start import begin_or_resume
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.finite import check_finite, gradient_norm, is_finite_step, non_finite_step
from facequarry.trainer.losses import triplet_loss
from facequarry.trainer.network.backbones import build_backbone
from facequarry.trainer.network.batch_norm import training_mode
from facequarry.trainer.network.embed import to_input
from facequarry.trainer.optimizer import build_optimizer, learning_rate, set_learning_rate
from facequarry.trainer.step_log import StepLog, over_ranks
from facequarry.trainer.world import World


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
        TimedOut: no batch came within `batch_timeout_s`.
        NotFinite: the loss, an embedding or a gradient stopped being a number; that step
            was not taken, and the newest checkpoint is from before.
        CheckpointMismatch: the newest checkpoint, or `init_from`, belongs to another backbone.
        BadInput, NotFound: `init_from` cannot be loaded.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(seed)
    model = _on_device(build_backbone(config.backbone, config.embedding_dim), world)
    optimizer = build_optimizer(config, model)
    reader = RowReader(run, random, faces)

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
            prune_checkpoints(
                run,
                keep=config.keep_checkpoints,
                announce=lambda gone: log.checkpoint(
                    step, seconds=time.perf_counter() - started, deleted_steps=gone
                ),
            )

    def publish_if_wanted() -> None:
        if world.rank == 0 and source.wants_checkpoint and step not in run.checkpoint_steps():
            publish(step)

    def fetch(step: int) -> Batch:
        lease = source.lease(step)
        if online:
            drawn = online.faces(step, rank=world.rank, world_size=world.size)
            return assemble_faces(lease, drawn, faces.store)
        return assemble(lease, reader, rank=world.rank, world_size=world.size)

    step = begin_or_resume(
        config, model, optimizer, run=run, faces=faces, random=random, world=world, publish=publish
    )
    log.start(step, world_size=world.size)
    replicas = world.wrap(training_mode(model, freeze_statistics=config.freeze_batch_norm))
    ended = time.perf_counter()
    with Prefetch(
        fetch,
        range(step, config.steps),
        depth=config.prefetch,
        timeout_s=batch_timeout_s,
        while_waiting=publish_if_wanted,
    ) as batches:
        for batch in batches:
            began, arrived = ended, time.perf_counter()
            embeddings = _embed(replicas, batch, config, world, seed=seed)
            triplets = triplets_of(batch, embeddings, margin=margin)
            result = objective = triplet_loss(embeddings, triplets, margin=margin)
            if config.add_in_batch:
                more = and_found(batch, embeddings, triplets, margin=margin)
                objective = triplet_loss(embeddings, more, margin=margin)
            optimizer.zero_grad(set_to_none=True)
            # The ranks' gradients are averaged: so weighed, to the mean over all their triplets.
            (world.weight_of(objective.num_triplets) * objective.loss).backward()
            weight = world.weight_of(result.num_triplets)
            figures = over_ranks(world, result, embeddings, gradient_norm(model), weight=weight)
            if not is_finite_step(figures):  # the same on every rank: all of them stop here
                raise non_finite_step(world, batch, embeddings, figures)
            rate = learning_rate(config, step)
            set_learning_rate(optimizer, rate)
            optimizer.step()

            step_s = time.perf_counter() - began
            log.step(batch, figures, learning_rate=rate, wait_s=arrived - began, step_s=step_s)
            step += 1
            if step % config.checkpoint_every == 0 or step == config.steps:
                publish(step)
            ended = time.perf_counter()  # publishing is no waiting for data
    log.close()
    return step


def _on_device(model: nn.Module, world: World) -> nn.Module:
    layout = torch.channels_last if world.is_on_gpu else torch.contiguous_format
    moved: nn.Module = model.to(device=torch.device(world.device), memory_format=layout)  # type: ignore[call-overload]
    return moved


def _embed(
    replicas: nn.Module, batch: Batch, config: TrainerConfig, world: World, *, seed: int
) -> torch.Tensor:
    """Return (F, D) unit rows of the batch's faces, augmented; differentiable."""
    images = augment(
        to_input(batch.images, world.device),
        batch.face_indices,
        config.augmentation,
        seed=batch.augmentation_seed or (seed, batch.step),
    )
    with torch.autocast(world.device.split(":")[0], torch.bfloat16, enabled=world.is_on_gpu):
        embeddings: torch.Tensor = replicas(images)
    return embeddings


def triplets_of(batch: Batch, embeddings: torch.Tensor, *, margin: float) -> torch.Tensor:
    """Return (T, 3) rows of `embeddings`: those that the batch names, or those found among them."""
    if batch.triplets is not None:
        return torch.from_numpy(batch.triplets).to(embeddings.device)
    return _found_in(batch, embeddings, margin=margin)


def and_found(
    batch: Batch, embeddings: torch.Tensor, triplets: torch.Tensor, *, margin: float
) -> torch.Tensor:
    """Return (T, 3) rows of `embeddings`: the triplets and those found among the batch's faces."""
    found = _found_in(batch, embeddings, margin=margin)
    union: torch.Tensor = torch.cat([triplets, found]).unique(dim=0)
    return union


def _found_in(batch: Batch, embeddings: torch.Tensor, *, margin: float) -> torch.Tensor:
    """Return (T, 3) rows of `embeddings`: the semi-hard triplets among the batch's faces."""
    identities = torch.from_numpy(batch.identities).to(embeddings.device)
    return semi_hard_in_batch(embeddings, identities, margin=margin)
