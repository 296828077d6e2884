"""The whole system, in `run_pipeline`: photos, faces, queue, miner, trainers, evaluation.

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

import ray

from facequarry.datasets.disk.lock import WriterLock, is_held
from facequarry.datasets.disk.publish import sweep_staging
from facequarry.datasets.faces.snapshots import Snapshot
from facequarry.datasets.ingest.ingest import Ingest
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.cluster import check_fits, check_machine, ray_cluster
from facequarry.jobs.config import RunConfig
from facequarry.jobs.endings import RunFailed, ending_of
from facequarry.jobs.miner_end import MinerEnd
from facequarry.jobs.reports.report import RunReport, make_report
from facequarry.jobs.start_actors import start_miner, start_queue
from facequarry.jobs.state.plans import check_split, faces_of, most_rows
from facequarry.jobs.state.rewind import rewind
from facequarry.jobs.state.runs_on_disk import (
    Attempt,
    absolute,
    attempt_of,
    check_run,
    pinned_snapshot,
)
from facequarry.jobs.watch import Watch, ingest_progress
from facequarry.miner.engines.approximate import check_index
from facequarry.miner.queue_actor import QueueClient
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces
from facequarry.trainer.checkpoints.initial_weights import (
    check_initial_crops,
    check_initial_weights,
)
from facequarry.trainer.evaluation.evaluate import evaluate
from facequarry.trainer.job import TrainJob
from facequarry.trainer.ray_train import WorkersLost, WorkFailed, fit

_MINER_STOP_TIMEOUT_S = 5.0
# `facequarry status` shares the lock for an instant to see whether someone has it.
_LOCK_TIMEOUT_S = 0.5
# Reading a lease's rows and faces, beyond the wait for the lease itself.
_BATCH_SLACK_S = 300.0


def run_pipeline(
    config: RunConfig, *, resume: bool = False, resume_from: int | None = None
) -> RunReport:
    """Run everything that `config` describes and return what came of it.

    Args:
        config: the run.
        resume: go on with the run of this name at its newest checkpoint.
        resume_from: go on with it at the checkpoint of this step; what came later is set aside.

    Raises:
        BadInput, OSError: bad input; the sentence says what to do and nothing was started.
        LockHeld: another process drives this run.
        RunFailed, BadRun: training or mining failed.
    """
    config = absolute(config)
    resume = resume or resume_from is not None
    run = check_run(config, resume=resume, resume_from=resume_from)
    check_free(run)
    check_machine(config)
    if config.trainer.selection == "mined":
        check_index(config.miner, config.trainer.embedding_dim, most_rows(config, run))
    if not resume:
        check_initial_weights(config.trainer)
    # Until the run is opened nothing of it is written.
    with cluster_and_faces(config, run) as faces:
        store = faces.open()  # the run's first snapshot, whatever is ingested from now on
        held_out = check_split(config, store)
        if not resume:
            check_initial_crops(config.trainer, store.crop_px)
        with driving(
            config, run, store.manifest, resume=resume, resume_from=resume_from
        ) as attempt:
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
            attempt.ending.update(
                auc=after.verification.auc,
                staleness_bound_steps=report.staleness_bound_steps,
                max_staleness_steps=report.max_staleness_steps,
            )
    return report


def train_on(config: RunConfig, *, resume_from: int | None = None) -> RunDir:
    """Go on with the training of a run that exists: no ingest before it, no evaluation after it.

    Raises:
        as `run_pipeline` does.
    """
    config = absolute(config)
    run = check_run(config, resume=True, resume_from=resume_from)
    check_free(run)
    check_machine(config)
    with cluster_and_faces(config, run, ingest=False) as faces:
        store = faces.open()
        check_split(config, store)
        with driving(config, run, store.manifest, resume=True, resume_from=resume_from) as attempt:
            train_with_mining(config, run, faces, attempt)
    return run


def check_free(run: RunDir) -> None:
    """Refuse, before anything is started, a run that another process drives.

    Raises:
        LockHeld: one does.
    """
    if is_held(run.driver_lock):
        with WriterLock(run.driver_lock, timeout_s=_LOCK_TIMEOUT_S):
            pass  # `facequarry status` had it for an instant


@contextlib.contextmanager
def driving(
    config: RunConfig, run: RunDir, faces: Snapshot, *, resume: bool, resume_from: int | None
) -> Iterator[Attempt]:
    """Be the one driver of a run for the block, from the checkpoint that was asked for.

    Raises:
        LockHeld: another process drives this run.
    """
    with WriterLock(run.driver_lock, timeout_s=_LOCK_TIMEOUT_S):
        if resume_from is not None:
            rewind(run, resume_from)
        with attempt_of(config, faces, resume=resume) as attempt:
            yield attempt


@contextlib.contextmanager
def cluster_and_faces(config: RunConfig, run: RunDir, *, ingest: bool = True) -> Iterator[FacesAt]:
    """Start Ray, ingest the run's photos if it names any, and say where its faces are.

    Raises:
        BadInput, OSError: photos or faces cannot be used; Ray was not started.
    """
    with contextlib.ExitStack() as stack:
        if config.photos is None or not ingest:
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


def train_with_mining(config: RunConfig, run: RunDir, faces: FacesAt, attempt: Attempt) -> None:
    """Train to the last step, with the queue and, for mined triplets, the miner beside it.

    Raises:
        RunFailed, BadRun: training or mining failed.
    """
    mined = config.trainer.selection == "mined"
    queue = start_queue(config, run, attempt.number)
    miner = start_miner(config, run, faces, attempt.number) if mined else None
    mining = miner.work.remote() if miner else None
    ended = MinerEnd(mining, queue, attempt.log)

    job = TrainJob(
        config=config.trainer,
        run=run,
        faces=faces,
        split=config.split,
        source=QueueClient(queue, timeout_s=config.refresh.lease_timeout_s),
        margin=config.miner.margin,
        seed=config.seed,
        attempt=attempt.number,
        batch_timeout_s=config.refresh.lease_timeout_s + _BATCH_SLACK_S,
    )
    watch = Watch(
        run, attempt=attempt.number, steps=config.trainer.steps, check=lambda: ended.look(watch.say)
    )

    def on_restart(reason: str, restarts: int) -> None:
        attempt.log.write("restart", reason=reason, restarts=restarts)
        sweep_staging(run.checkpoints)  # the whole group is gone: what it staged is dead
        watch.say(f"{reason}; restart {restarts} of at most {config.trainer.max_failures}")

    try:
        with watch, saying_that_it_stops(watch):
            fit(
                job,
                storage=run.root / "ray_train",
                cpus_per_worker=config.cluster.trainer_cpus,
                on_restart=on_restart,
            )
    except WorkFailed as failed:
        raise ending_of(ended.behind(failed.cause)) from failed
    except WorkersLost as lost:
        raise RunFailed(str(lost)) from lost
    finally:
        if miner is not None:
            ray.wait([miner.stop.remote(), mining], num_returns=2, timeout=_MINER_STOP_TIMEOUT_S)
        # A refresh that is still in hand is lost with its actor: nobody would consume it.
        for actor in filter(None, (miner, queue)):
            ray.kill(actor)


@contextlib.contextmanager
def saying_that_it_stops(watch: Watch) -> Iterator[None]:
    """Answer Ctrl-C with a sentence: Ray's own shutdown takes seconds and says nothing."""
    try:
        yield
    except KeyboardInterrupt:
        watch.say("stopping; what is in hand is finished or dropped")
        raise
