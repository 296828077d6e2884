"""Run the loop on n Ray Train workers: the only module of the trainer that knows Ray.

Ray Train places the workers, starts the process group and brings a lost group back. It is given no
checkpoints: the loop picks the newest of ours that verifies (docs/decisions.md).
"""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path

import ray.train
import ray.train.torch
from ray.train import FailureConfig, RunConfig, ScalingConfig

from trainer.job import TrainJob
from trainer.world import World

# Placement is tried for a minute at a time; after this many tries the cluster will not fit us.
_PLACEMENT_TRIES = 3


def fit(job: TrainJob, *, storage: Path, cpus_per_worker: float) -> int:
    """Train on `job.config.workers` Ray Train workers; return the last step.

    Args:
        job: what each worker does.
        storage: folder for Ray Train's own records, on storage that all nodes see.
        cpus_per_worker: CPUs that a worker reserves.

    Raises:
        ray.train.TrainingFailedError: the group failed more than `max_failures` times; its cause
            is the first worker's error.
        KeyboardInterrupt: Ctrl-C; the workers are ended.
    """
    # Ray Train reports its controller's every state at INFO; our own lines come from the events.
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=job.config.workers,
            use_gpu=job.config.use_gpu,
            resources_per_worker={"CPU": cpus_per_worker, "GPU": int(job.config.use_gpu)},
        ),
        run_config=RunConfig(
            name=f"attempt-{job.attempt}",
            storage_path=str(storage.resolve()),
            failure_config=FailureConfig(
                max_failures=job.config.max_failures, controller_failure_limit=_PLACEMENT_TRIES
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
