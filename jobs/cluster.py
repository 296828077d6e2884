"""Start an embedded Ray or join a cluster, and check that the run fits it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
from collections.abc import Iterator

import ray

from facequarry.datasets.disk.errors import BadInput, Failure
from facequarry.jobs.config import ClusterConfig, RunConfig
from facequarry.jobs.signals import take_sigterm_for_ctrl_c

_GIB = 1 << 30
_ANSWER_TIMEOUT_S = 30.0


class DoesNotFit(BadInput):
    """The cluster can never place what the run asks for."""


class NoCluster(Failure, ConnectionError):
    """Nothing answers where the cluster should be."""


@contextlib.contextmanager
def ray_cluster(config: ClusterConfig) -> Iterator[None]:
    """Use an embedded Ray for the block, or the cluster that this process belongs to.

    Where Ray is started already, it is used as it is and left running.

    Raises:
        NoCluster: nothing answers at `config.address`.
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
        check_answers(config.address)
        ray.init(address=config.address, log_to_driver=False, logging_level=logging.ERROR)
    # Ray sets a handler that ends the process on the spot: nothing would be closed or logged.
    take_sigterm_for_ctrl_c()
    try:
        yield
    finally:
        ray.shutdown()


def check_answers(address: str, *, timeout_s: float = _ANSWER_TIMEOUT_S) -> None:
    """Refuse an address where nothing listens: Ray itself would try it for minutes.

    Raises:
        NoCluster: there is no connection within `timeout_s`.
    """
    found = re.fullmatch(r"(?:ray://)?\[?(?P<host>[^\[\]]+?)\]?:(?P<port>\d{1,5})", address)
    if found is None:  # `auto`, or a spelling that Ray judges
        return
    try:
        socket.create_connection((found["host"], int(found["port"])), timeout=timeout_s).close()
    except (OSError, OverflowError) as error:
        raise NoCluster(
            f"no Ray cluster answers at {address} ({error}); start one with: ray start --head, "
            "or leave out --cluster.address for an embedded Ray"
        ) from error


def check_machine(config: RunConfig) -> None:
    """Refuse what an embedded Ray on this machine can never place, before Ray is started.

    Raises:
        DoesNotFit: trainers and miner ask for more than the machine has.
    """
    if config.cluster.address is not None or ray.is_initialized():
        return  # `check_fits` asks the cluster
    import torch

    cpus = config.cluster.num_cpus or os.cpu_count() or 1
    _check_cpus(config, cpus, "this machine")
    _check_gpus(config, torch.cuda.device_count(), "this machine")


def check_fits(config: RunConfig) -> None:
    """Refuse at once what would wait for ever.

    Raises:
        DoesNotFit: trainers and miner together ask for more than the cluster has.
    """
    has = ray.cluster_resources()
    _check_cpus(config, has.get("CPU", 0), "Ray")
    _check_gpus(config, has.get("GPU", 0), "Ray")


def _check_cpus(config: RunConfig, cpus: float, where: str) -> None:
    miners = config.cluster.num_miner_processes if config.trainer.selection == "mined" else 0
    mining = miners * config.cluster.miner_cpus
    training = config.trainer.workers * config.cluster.trainer_cpus
    if training + mining > cpus:
        raise DoesNotFit(
            f"{config.trainer.workers} training workers of {config.cluster.trainer_cpus:g} CPUs "
            f"and {_miners_of(miners, config.cluster.miner_cpus)} ask for {training + mining:g} "
            f"CPUs, {where} has {cpus:g}; lower --cluster.trainer-cpus or --cluster.miner-cpus"
            f"{' or --cluster.miner-actors and --cluster.embed-actors' if miners > 1 else ''}"
        )


def _check_gpus(config: RunConfig, gpus: float, where: str) -> None:
    training = config.trainer.workers if config.trainer.use_gpu else 0
    if training > gpus:
        raise DoesNotFit(
            f"trainer.use-gpu needs {training} GPUs, {where} has {gpus:g}; "
            "leave out --trainer.use-gpu to train on CPUs"
        )
    mining = _gpus_of_mining(config, gpus)
    if training + mining > gpus:
        raise DoesNotFit(
            f"training workers ask for {training} GPUs, the miner and its embedding actors for "
            f"{mining}, {where} has {gpus:g}; lower --cluster.embed-actors, or set --miner.device "
            "to cpu, or to auto, which lets a miner that embeds by itself share a GPU with training"
        )


def _gpus_of_mining(config: RunConfig, gpus: float) -> int:
    """Return how many of the GPUs that there are mining cannot do without."""
    embedders = config.cluster.embed_actors if config.cluster.embed_actors > 1 else 0
    if config.trainer.selection != "mined" or config.miner.device == "cpu":
        return 0
    if config.miner.device == "cuda":
        return 1 + embedders
    # A miner that sees a GPU has its embedders reserve one each; as many work as find one.
    return int(gpus > 0 and embedders > 0)


def _miners_of(miners: int, cpus: float) -> str:
    if miners > 1:
        return f"{miners} miner processes of {cpus:g}"
    return f"a miner of {miners * cpus:g}"
