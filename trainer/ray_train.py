"""Run the loop on n Ray Train workers: the only module of the trainer that knows Ray.

Ray Train places the workers and starts the process group. It is given no checkpoints, the loop
picks the newest of ours that verifies, and no failures to mend: what failed decides. A worker that
was *lost* (killed, its node gone) brings the whole group back; what the work itself *raised* would
be raised again by the same rows, so it ends the training at once (docs/decisions.md).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import ray.train
import ray.train.torch
from ray.exceptions import ActorDiedError, RayActorError, RayTaskError
from ray.train import (
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    WorkerGroupError,
)
from torch.distributed import DistError

from facequarry.datasets.disk.errors import Failure
from facequarry.trainer.job import TrainJob
from facequarry.trainer.world import World

# Placement is tried for a minute at a time; after this many tries the cluster will not fit us.
_PLACEMENT_TRIES = 3
# By name: Ray Train has them in a private module.
_PLACEMENT_ERRORS = ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError")
# How often Ray Train looks at its workers, seconds: a lost one, and the end, are seen that late.
_LOOK_S = "0.5"

OnRestart = Callable[[str, int], None]


class WorkersLost(Failure):
    """Workers were lost more often than they are brought back; the message says what happened."""


class WorkFailed(Failure):
    """The work itself raised, and would raise again; `cause` is what."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(describe(cause))
        self.cause = cause


def fit(job: TrainJob, *, storage: Path, cpus_per_worker: float, on_restart: OnRestart) -> int:
    """Train on `job.config.workers` Ray Train workers; return the last step.

    Args:
        job: what each worker does.
        storage: folder for Ray Train's own records, on storage that all nodes see.
        cpus_per_worker: CPUs that a worker reserves.
        on_restart: told why a lost group is brought back, and how often it has been by then.

    Raises:
        WorkersLost: workers were lost more than `max_failures` times, or cannot be placed, or
            Ray Train itself failed.
        WorkFailed: a worker's own code raised.
        KeyboardInterrupt: Ctrl-C; the workers are ended.
    """
    # Ray Train reports its controller's every state at INFO; our own lines come from the events.
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = _LOOK_S  # read by its controller alone
    restarts = 0
    while True:
        try:
            # A name of its own: Ray Train would take up the state of the group that was lost.
            return _fit_once(job, f"attempt-{job.attempt}-{restarts}", storage, cpus_per_worker)
        except (TrainingFailedError, RayActorError) as error:
            reason = lost_reason(error, workers=job.config.workers)
            if restarts == job.config.max_failures:
                raise WorkersLost(
                    f"{reason}; the group was brought back {restarts} times, which is all that "
                    "trainer.max_failures allows; go on with --resume"
                ) from error
            restarts += 1
            on_restart(reason, restarts)


def lost_reason(error: TrainingFailedError | RayActorError, *, workers: int) -> str:
    """Say what was lost, where a group may be brought back.

    Raises:
        WorkFailed: a worker's own code raised.
        WorkersLost: the workers cannot be placed, or Ray Train's controller failed.
    """
    if isinstance(error, ControllerError):
        is_placement = type(error.controller_failure).__name__ in _PLACEMENT_ERRORS
        what = (
            "the training workers cannot be placed"
            if is_placement
            else "Ray Train's controller failed"
        )
        raise WorkersLost(f"{what}: {describe(error)}") from error
    failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
    raised = raised_by_work(failures, workers=workers)
    if raised is not None:
        raise WorkFailed(raised) from error
    lost = {rank: failure for rank, failure in failures.items() if is_lost(failure)}
    ranks = ", ".join(str(rank) for rank in sorted(lost or failures))
    first = next(iter((lost or failures).values()), error)
    which = f"training worker {ranks}" if ranks else "the group of training workers"
    return f"{which} was lost ({describe(first)})"


def raised_by_work(failures: Mapping[int, BaseException], *, workers: int) -> BaseException | None:
    """Return what a rank's own code raised; None where all that failed is due to a lost rank.

    When one rank goes, the others fail in the collective that waits for it: with more than one
    worker a bare RuntimeError is the process group's.
    """
    for rank in sorted(failures):
        failure = failures[rank]
        is_collective = type(failure) is RuntimeError or isinstance(failure, DistError)
        if not is_lost(failure) and not (is_collective and workers > 1):
            return failure
    return None


def is_lost(failure: BaseException) -> bool:
    """Say whether a failure is Ray's, a process or node that is gone, and no code's."""
    is_of_ray = type(failure).__module__.partition(".")[0] == "ray"
    return is_of_ray and raised_in_actor(failure) is None


def raised_in_actor(error: BaseException) -> BaseException | None:
    """Return what an actor's own code raised, in a call or in its constructor; None if nothing."""
    if isinstance(error, RayTaskError):
        return raised_in_actor(error.cause) or error.cause
    if isinstance(error, ActorDiedError) and error.actor_init_failed:
        return raised_in_actor(error.args[0])  # the constructor's own task error
    return None


def describe(error: BaseException) -> str:
    """Return the one line at the bottom of an error that came through Ray."""
    raised = raised_in_actor(error)
    if raised is not None:
        return describe(raised)
    match error:
        case ControllerError():
            return describe(error.controller_failure)
        case WorkerGroupError() if error.worker_failures:
            return describe(error.worker_failures[min(error.worker_failures)])
    health_check = getattr(error, "health_check_failure", None)
    if isinstance(health_check, BaseException):
        return describe(health_check)
    first_line = str(error).partition("\n")[0].rstrip(". ")
    return f"{type(error).__name__}: {first_line}"


def _fit_once(job: TrainJob, name: str, storage: Path, cpus_per_worker: float) -> int:
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=job.config.workers,
            use_gpu=job.config.use_gpu,
            resources_per_worker={"CPU": cpus_per_worker, "GPU": int(job.config.use_gpu)},
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage.resolve()),
            failure_config=FailureConfig(
                max_failures=0,
                max_preemption_failures=0,
                controller_failure_limit=_PLACEMENT_TRIES,
            ),
        ),
    )
    # Ray Train takes Ctrl-C for itself: it ends its workers, leaves by SystemExit, and stays in
    # charge of the signal.
    handler = signal.getsignal(signal.SIGINT)
    try:
        step = trainer.fit().return_value
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
    if not isinstance(step, int):
        raise RuntimeError(f"the training workers returned {step!r} in place of their last step")
    return step


def _work(loop_config: dict[str, TrainJob]) -> int:
    context = ray.train.get_context()
    world = World(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        device=str(ray.train.torch.get_device()),
    )
    return loop_config["job"].work(world)
