"""The whole system on one page: photos, faces, queue, miner, trainers, evaluation.

    photos -> ingest -> faces ----------------------------.
                          |                                |
        trainers: lease, step, publish checkpoint ---> miner: embed, mine, publish generation
                          ^                                |
                          '---- leases <---- queue <-------'

The parts meet on disk alone: checkpoints and generations are published files, the queue is a
journal, progress is the event log. So any of them may die and come back.

    facequarry run --config jobs/runs/lfw.toml
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
from ray.train import TrainingFailedError

from datasets.faces import FaceStore
from datasets.ingest import Ingest
from datasets.lock import WriterLock
from datasets.run_dir import RunDir
from jobs.cluster import check_fits, ray_cluster
from jobs.config import RunConfig
from jobs.report import RunReport, make_report
from jobs.runs_on_disk import absolute, attempt_of, check_run, pinned_snapshot
from jobs.watch import Watch, ingest_progress
from miner.actors import MinerActor, QueueActor, QueueClient
from miner.refresh import RefreshPlan
from miner.serve import QueueSettings
from trainer.batches import RandomTriplets
from trainer.evaluate import evaluate
from trainer.faces import FacesAt, RunFaces
from trainer.job import TrainJob
from trainer.pairs import verification_pairs
from trainer.ray_train import fit

_MINER_STOP_TIMEOUT_S = 5.0
_ACTOR_TIMEOUT_S = 120.0
# `facequarry status` shares the lock for an instant to see whether someone has it.
_LOCK_TIMEOUT_S = 0.5
# Reading a lease's rows and faces, beyond the wait for the lease itself.
_BATCH_SLACK_S = 300.0


class RunFailed(RuntimeError):
    """Training or mining ended with an error; the message is its reason."""


def run_pipeline(config: RunConfig, *, resume: bool = False) -> RunReport:
    """Run everything that `config` describes and return what came of it.

    Raises:
        ValueError, OSError: bad input; the sentence says what to do and nothing was started.
        LockHeld: another process drives this run.
        RunFailed: training or mining failed.
    """
    config = absolute(config)
    run = check_run(config, resume=resume)
    # Until the run is opened nothing of it is written.
    with cluster_and_faces(config, run) as faces:
        store = faces.open()  # the run's first snapshot, whatever is ingested from now on
        held_out = check_split(config, store)
        with (
            WriterLock(run.driver_lock, timeout_s=_LOCK_TIMEOUT_S),
            attempt_of(config, store.manifest, resume=resume) as (attempt, ending),
        ):
            train_with_mining(config, run, faces, attempt)
            before, after = (
                evaluate(
                    run,
                    store,
                    held_out,
                    step=step,
                    part=config.evaluation.part,
                    max_pairs=config.evaluation.max_pairs,
                    seed=config.seed,
                )
                for step in (0, config.trainer.steps)
            )
            report = make_report(config, run, RunFaces(faces, store), before, after)
            ending |= {
                "auc": after.verification.auc,
                "staleness_bound_steps": report.staleness_bound_steps,
                "max_staleness_steps": report.max_staleness_steps,
            }
    return report


def check_split(config: RunConfig, store: FaceStore) -> npt.NDArray[np.int64]:
    """Return the faces to evaluate, after checking that both parts can be used.

    Raises:
        ValueError: a part has no identities, or no identity with two faces.
    """
    train = config.split.faces(store, "train")
    RandomTriplets(train, store.identity_index[train], seed=config.seed)
    evaluated = config.split.faces(store, config.evaluation.part)
    verification_pairs(
        store.identity_index[evaluated], max_pairs=config.evaluation.max_pairs, seed=config.seed
    )
    return evaluated


@contextlib.contextmanager
def cluster_and_faces(config: RunConfig, run: RunDir) -> Iterator[FacesAt]:
    """Start Ray, ingest the run's photos if it names any, and say where its faces are.

    Raises:
        ValueError, OSError: photos or faces cannot be used; Ray was not started.
    """
    with contextlib.ExitStack() as stack:
        if config.photos is None:
            pinned_snapshot(config, run)
            stack.enter_context(ray_cluster(config.cluster))
            check_fits(config)
        else:
            with Ingest(config.photos, config.faces, config.ingest) as work:
                listing = work.look()
                news = work.find_news(listing)
                stack.enter_context(ray_cluster(config.cluster))
                check_fits(config)
                with ingest_progress() as show:
                    work.take(listing, news, show)
        yield faces_of(config, run)


def faces_of(config: RunConfig, run: RunDir) -> FacesAt:
    """Say where a run's faces are: the snapshot that it started with."""
    return FacesAt(
        root=config.faces,
        cache=config.cluster.face_cache or config.faces / "cache",
        snapshot=pinned_snapshot(config, run),
    )


def train_with_mining(config: RunConfig, run: RunDir, faces: FacesAt, attempt: int) -> None:
    """Train to the last step, with the queue and, for mined triplets, the miner beside it.

    Raises:
        RunFailed: training or mining failed.
    """
    mined = config.trainer.selection == "mined"
    queue = start_queue(config, run, attempt)
    miner = start_miner(config, run, faces, attempt) if mined else None
    mining = miner.work.remote() if miner else None
    failure: list[str] = []

    def check_miner() -> None:
        if mining is None or not ray.wait([mining], timeout=0)[0]:
            return
        try:
            ray.get(mining, timeout=_ACTOR_TIMEOUT_S)
        except ray.exceptions.RayError as error:
            failure[:] = [_reason(error)]
            queue.give_up.remote(failure[0])  # at each look: a restarted queue has forgotten it

    job = TrainJob(
        config=config.trainer,
        run=run,
        faces=faces,
        split=config.split,
        source=QueueClient(queue, timeout_s=config.refresh.lease_timeout_s),
        margin=config.miner.margin,
        seed=config.seed,
        attempt=attempt,
        batch_timeout_s=config.refresh.lease_timeout_s + _BATCH_SLACK_S,
    )
    try:
        with Watch(run, attempt=attempt, steps=config.trainer.steps, check=check_miner):
            fit(job, storage=run.root / "ray_train", cpus_per_worker=config.cluster.trainer_cpus)
    except TrainingFailedError as error:
        raise RunFailed(failure[0] if failure else _reason(error)) from error
    finally:
        if miner is not None:
            ray.wait([miner.stop.remote(), mining], num_returns=2, timeout=_MINER_STOP_TIMEOUT_S)
        # A refresh that is still in hand is lost with its actor: nobody would consume it.
        for actor in filter(None, (miner, queue)):
            ray.kill(actor)


def start_queue(config: RunConfig, run: RunDir, attempt: int) -> Any:
    """Start the queue actor: no CPU of its own, restarted for ever from its journal."""
    blocking = config.refresh.mode == "blocking" and config.trainer.selection == "mined"
    waits = config.refresh.on_stale == "wait"
    settings = QueueSettings(
        batch=config.trainer.batch,
        carry_over=config.refresh.carry_over,
        seed=config.seed,
        prefetch=config.trainer.prefetch,
        random_until_mined=config.trainer.selection != "mined"
        or config.refresh.on_empty == "random",
        block_every=config.trainer.checkpoint_every if blocking else None,
        max_staleness_steps=config.refresh.max_staleness_steps if waits else None,
        keep_generations=config.refresh.keep_generations,
    )
    remote: Any = ray.remote(QueueActor)
    actor = remote.options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
    return actor.remote(run, settings, attempt)


def start_miner(config: RunConfig, run: RunDir, faces: FacesAt, attempt: int) -> Any:
    """Start the miner actor: restarted for ever, and its work with it."""
    remote: Any = ray.remote(MinerActor)
    # Two threads: `work` runs for the whole of the training, `stop` has to get in.
    actor = remote.options(
        num_cpus=config.cluster.miner_cpus, max_restarts=-1, max_task_retries=-1, max_concurrency=2
    )
    return actor.remote(
        run,
        faces,
        refresh_plan(config),
        last_step=config.trainer.steps,
        max_failures=config.refresh.max_failures,
        threads=max(1, int(config.cluster.miner_cpus)),
        attempt=attempt,
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
    )


def _reason(error: BaseException) -> str:
    """Return the sentence at the bottom of an error that came through Ray."""
    match error:
        case ray.exceptions.RayTaskError():
            return f"{type(error.cause).__name__}: {error.cause}"
        case TrainingFailedError() if failures := getattr(error, "worker_failures", None):
            return _reason(next(iter(failures.values())))
    return f"{type(error).__name__}: {error}"
