"""Where a training begins: at the newest checkpoint that verifies, or at one of step 0 made now."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.batches import RandomTriplets
from facequarry.trainer.batch.run_faces import RunFaces
from facequarry.trainer.checkpoints.checkpoint import (
    abandon_unverified,
    load_trainer_state,
    load_weights,
    verified_or_abandoned,
)
from facequarry.trainer.checkpoints.initial_weights import check_initial_crops, load_initial_weights
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.network.batch_norm import calibrate
from facequarry.trainer.network.embed import to_input
from facequarry.trainer.world import World

_CALIBRATION_TRIPLETS = 128


def begin_or_resume(
    config: TrainerConfig,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    run: RunDir,
    faces: RunFaces,
    random: RandomTriplets,
    world: World,
    publish: Callable[[int], None],
) -> int:
    """Give the model and its optimizer what training goes on from; return the step.

    Args:
        config: says which weights a new run starts from.
        model: fresh, as the run's seed makes it.
        optimizer: of that model.
        run: where the checkpoints are.
        faces: their crops calibrate a network that starts from random weights.
        random: chooses those faces.
        world: this process's rank.
        publish: publishes the model as the checkpoint of a step.

    Raises:
        CheckpointMismatch: the newest checkpoint, or `init_from`, belongs to another backbone.
        BadInput, NotFound: `init_from` cannot be loaded.
    """
    newest, has_first = usable_checkpoints(run, world)
    if not has_first:
        if config.init_from is None:
            first_faces = np.unique(random.rows(0, _CALIBRATION_TRIPLETS))
            calibrate(model, to_input(faces.store.decode(first_faces), world.device))
        else:
            check_initial_crops(config, faces.crop_px)
            load_initial_weights(model, config.init_from)
        publish(0)
    if newest is not None:
        load_weights(model, run.checkpoint(newest))
        optimizer.load_state_dict(load_trainer_state(run.checkpoint(newest))["optimizer"])
    return newest or 0


def usable_checkpoints(run: RunDir, world: World) -> tuple[int | None, bool]:
    """Return the step to go on from, None where there is none, and whether step 0 is there.

    Rank 0 looks, and sets aside what does not verify. Step 0 is what results are compared with at
    the end: a damaged one is made again now, from the seed, rather than missed after the training.
    """
    newest, has_first = None, False
    if world.rank == 0:
        newest = abandon_unverified(run)
        has_first = newest == 0 or verified_or_abandoned(run, 0)
    newest = world.from_rank_0(-1 if newest is None else newest)
    has_first = bool(world.from_rank_0(int(has_first)))
    return (None if newest < 0 else newest), has_first
