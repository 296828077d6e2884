"""Start an embedded Ray or join a cluster, and check that the run fits it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import ray

from jobs.config import ClusterConfig, RunConfig
from jobs.signals import take_sigterm_for_ctrl_c

_GIB = 1 << 30


class DoesNotFit(ValueError):
    """The cluster can never place what the run asks for."""


@contextlib.contextmanager
def ray_cluster(config: ClusterConfig) -> Iterator[None]:
    """Use an embedded Ray for the block, or the cluster that this process belongs to.

    Where Ray is started already, it is used as it is and left running.
    """
    if ray.is_initialized():
        yield
        return
    # Read by Ray when it starts: no usage statistics.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if config.address is None:
        ray.init(
            address="local",
            num_cpus=config.num_cpus,
            object_store_memory=int(config.object_store_gib * _GIB),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    else:
        ray.init(address=config.address, log_to_driver=False, logging_level=logging.ERROR)
    # Ray sets a handler that ends the process on the spot: nothing would be closed or logged.
    take_sigterm_for_ctrl_c()
    try:
        yield
    finally:
        ray.shutdown()


def check_fits(config: RunConfig) -> None:
    """Refuse at once what would wait for ever.

    Raises:
        DoesNotFit: trainers and miner together ask for more than the cluster has.
    """
    has = ray.cluster_resources()
    mining = config.cluster.miner_cpus if config.trainer.selection == "mined" else 0.0
    training = config.trainer.workers * config.cluster.trainer_cpus
    if training + mining > has.get("CPU", 0):
        raise DoesNotFit(
            f"{config.trainer.workers} training workers of {config.cluster.trainer_cpus:g} CPUs "
            f"and a miner of {mining:g} ask for {training + mining:g} CPUs, Ray has "
            f"{has.get('CPU', 0):g}; lower --cluster.trainer-cpus or --cluster.miner-cpus"
        )
    if config.trainer.use_gpu and config.trainer.workers > has.get("GPU", 0):
        raise DoesNotFit(
            f"trainer.use-gpu needs {config.trainer.workers} GPUs, Ray has {has.get('GPU', 0):g}; "
            "leave out --trainer.use-gpu to train on CPUs"
        )
