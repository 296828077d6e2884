"""What each part of a run is told, from its configuration: faces, split, queue and refreshes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from facequarry.datasets.faces.snapshots import read_snapshot
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import ClusterConfig, RunConfig
from facequarry.jobs.state.origin import check_origin
from facequarry.jobs.state.runs_on_disk import pinned_snapshot
from facequarry.miner.queue.serve import QueueSettings
from facequarry.miner.refresh.budget.budget import Budget
from facequarry.miner.refresh.executors import HERE, Executors
from facequarry.miner.refresh.recipe import RefreshPlan
from facequarry.trainer.batch.batches import RandomTriplets
from facequarry.trainer.batch.online import identity_batches
from facequarry.trainer.batch.run_faces import FacesAt
from facequarry.trainer.evaluation.face_pairs import verification_pairs

LEAST_BATCHES = 4
"""Batches of pairs that a budgeted refresh embeds at least: the queue passes over a generation of
fewer triplets than one batch, and not every pair has a negative in its band."""


def faces_of(config: RunConfig, run: RunDir) -> FacesAt:
    """Say where a run's faces are: the snapshot that it started with."""
    return FacesAt(
        root=config.faces,
        cache=config.cluster.face_cache or config.faces / "cache",
        snapshot=pinned_snapshot(config, run),
    )


def most_rows(config: RunConfig, run: RunDir) -> int | None:
    """Return how many faces a refresh can embed at most; None before the photos are ingested."""
    if config.photos is not None:
        return None
    if config.refresh.snapshots == "newest":
        return read_snapshot(config.faces).num_faces
    return read_snapshot(config.faces, pinned_snapshot(config, run)).num_faces


def check_split(config: RunConfig, store: FaceStore) -> npt.NDArray[np.int64]:
    """Return the faces to evaluate, after checking that both parts can be used.

    Raises:
        BadInput: a part has no identities, or no identity with two faces; a step of triplets
            found in the batch has too few for its ranks; or the weights of `init_from` were trained
            on people who are to be evaluated.
    """
    train = config.split.faces(store, "train")
    identities = store.identity_index[train]
    RandomTriplets(train, identities, seed=config.seed)
    if config.trainer.selection == "online_semi_hard":
        identity_batches(config.trainer, train, identities, seed=config.seed)
    check_origin(config, store)
    evaluated = config.split.faces(store, config.evaluation.part)
    verification_pairs(
        store.identity_index[evaluated], max_pairs=config.evaluation.max_pairs, seed=config.seed
    )
    return evaluated


def queue_settings(config: RunConfig) -> QueueSettings:
    """Return what the queue of a run is told."""
    is_mined = config.trainer.selection == "mined"
    blocks = config.refresh.mode == "blocking" and is_mined
    waits = config.refresh.on_stale == "wait"
    return QueueSettings(
        batch=config.trainer.batch,
        carry_over=config.refresh.carry_over,
        seed=config.seed,
        prefetch=config.trainer.prefetch,
        random_until_mined=not is_mined or config.refresh.on_empty == "random",
        block_every=config.trainer.checkpoint_every if blocks else None,
        max_staleness_steps=config.refresh.max_staleness_steps if waits else None,
        keep_generations=config.refresh.keep_generations,
    )


def refresh_budget(config: RunConfig) -> Budget | None:
    """Return what a refresh may take; None where it takes as long as it takes."""
    if config.refresh.budget == "none":
        return None
    return Budget(
        steps=config.trainer.checkpoint_every,
        share=config.refresh.budget_share,
        least_rows=LEAST_BATCHES * config.trainer.batch,
        first_faces=config.refresh.first_faces,
    )


def refresh_plan(config: RunConfig) -> RefreshPlan:
    """Return what every refresh of a run is told."""
    needed = config.refresh.rows_per_step * config.trainer.checkpoint_every * config.trainer.batch
    return RefreshPlan(
        config=config.miner,
        split=config.split,
        rows_needed=int(needed),
        seed=config.seed,
        snapshots=config.refresh.snapshots,
        augmentation=config.trainer.augmentation if config.refresh.augmented else None,
        budget=refresh_budget(config),
    )


def refresh_executors(config: ClusterConfig, faces: FacesAt) -> Executors:
    """Say who embeds and searches in a refresh: the miner itself, or actors."""
    if config.num_miner_processes == 1:
        return HERE
    from facequarry.miner.refresh.shared_executors import SharedExecutors  # heavy: Ray and numba

    return SharedExecutors(
        at=faces,
        embed_actors=config.embed_actors,
        miner_actors=config.miner_actors,
        cpus=config.miner_cpus,
    ).executors()
