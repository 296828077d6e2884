"""Start a run's queue and miner as Ray actors: their CPUs, their restarts, what they are told."""

from __future__ import annotations

from typing import Any

import ray

from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import RunConfig
from facequarry.jobs.state.plans import queue_settings, refresh_executors, refresh_plan
from facequarry.miner.miner_actor import MinerActor
from facequarry.miner.queue_actor import QueueActor
from facequarry.trainer.batch.run_faces import FacesAt


def start_queue(config: RunConfig, run: RunDir, attempt: int) -> Any:
    """Start the queue actor: no CPU of its own, restarted for ever from its journal."""
    remote: Any = ray.remote(QueueActor)
    actor = remote.options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
    return actor.remote(run, queue_settings(config), attempt)


def start_miner(config: RunConfig, run: RunDir, faces: FacesAt, attempt: int) -> Any:
    """Start the miner actor: restarted for ever, and its work with it."""
    remote: Any = ray.remote(MinerActor)
    is_alone = config.cluster.num_miner_processes == 1
    # Two threads: `work` runs for the whole of the training, `stop` has to get in.
    actor = remote.options(
        # The CPUs go to the actors that share a refresh: while they work the miner waits for them.
        num_cpus=config.cluster.miner_cpus if is_alone else 0,
        # Its own for as long as it lives: it sees what there is, and searches on it.
        num_gpus=int(config.miner.device == "cuda"),
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=2,
    )
    return actor.remote(
        run,
        faces,
        refresh_plan(config),
        last_step=config.trainer.steps,
        max_failures=config.refresh.max_failures,
        random_until_mined=config.refresh.on_empty == "random",
        threads=max(1, int(config.cluster.miner_cpus)),
        attempt=attempt,
        executors=refresh_executors(config.cluster, faces),
    )
