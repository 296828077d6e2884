"""Which failures bring a group back, which end the run, and with which exit code."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    InsufficientClusterResourcesError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
)
from torch.distributed import DistBackendError

import facequarry.jobs.pipeline  # noqa: F401  # imports what a run can raise
from facequarry.datasets.disk.errors import BadInput, Failure, exit_code_of
from facequarry.jobs.endings import BadRun, RunFailed, ending_of
from facequarry.miner.queue.client import MiningFailed
from facequarry.miner.queue.journal import CorruptJournal
from facequarry.miner.queue.too_small import EmptyGeneration
from facequarry.trainer.checkpoints.checkpoint import CheckpointMismatch, CorruptCheckpoint
from facequarry.trainer.finite import NotFinite
from facequarry.trainer.ray_train import WorkersLost, WorkFailed, is_lost, lost_reason

GONE = ActorDiedError()
PEER = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")


def through_ray(cause: Exception) -> RayTaskError:
    """Return an error as `ray.get` raises it where an actor raised `cause`."""
    wrapped: RayTaskError = RayTaskError("ask", "traceback", cause).as_instanceof_cause()
    return wrapped


@pytest.mark.parametrize(
    "failures",
    [
        {0: GONE},
        {0: PEER, 1: GONE},
        {0: PEER},  # the other rank's death is noticed later
        {0: DistBackendError("NCCL"), 1: PEER},
    ],
)
def test_a_lost_rank_brings_the_group_back_whatever_the_others_say(
    failures: dict[int, Exception],
) -> None:
    assert "lost" in lost_reason(WorkerGroupError("", failures), workers=2)


@pytest.mark.parametrize(
    "raised",
    [
        FloatingPointError("the loss of step 3 is nan"),
        CheckpointMismatch("does not fit"),
        TimeoutError("no batch"),
        KeyError("a bug"),
        through_ray(MiningFailed("nothing mined")),
    ],
)
def test_what_a_rank_raised_ends_the_training_even_if_others_were_lost(raised: Exception) -> None:
    with pytest.raises(WorkFailed) as caught:
        lost_reason(WorkerGroupError("", {0: PEER, 1: raised}), workers=2)
    assert caught.value.cause is raised


def test_alone_a_worker_has_no_peer_to_blame() -> None:
    with pytest.raises(WorkFailed):
        lost_reason(WorkerGroupError("", {0: RuntimeError("shapes differ")}), workers=1)


@pytest.mark.parametrize(
    "error",
    [WorkerGroupStartupTimeoutError(num_workers=2), InsufficientClusterResourcesError("2 GPUs")],
)
def test_workers_that_cannot_be_placed_are_not_waited_for_again(error: Exception) -> None:
    with pytest.raises(WorkersLost, match=f"cannot be placed: {type(error).__name__}: "):
        lost_reason(ControllerError(error), workers=1)


@pytest.mark.parametrize(
    "error", [WorkerGroupStartupFailedError("its node died"), OSError("its node died")]
)
def test_a_controller_that_failed_is_not_said_to_have_no_room(error: Exception) -> None:
    words = f"^Ray Train's controller failed: {type(error).__name__}: its node died$"
    with pytest.raises(WorkersLost, match=words):
        lost_reason(ControllerError(error), workers=1)


def test_an_actor_that_died_in_its_constructor_is_no_lost_worker() -> None:
    died = ActorDiedError(RayTaskError("__init__", "", CorruptJournal("line 3 is damaged")))
    with pytest.raises(WorkFailed, match="^CorruptJournal: line 3 is damaged$") as caught:
        lost_reason(WorkerGroupError("", {0: died}), workers=1)
    ending = ending_of(caught.value.cause)
    assert (type(ending), str(ending)) == (BadRun, "line 3 is damaged")


class DiesAtOnce:
    """An actor of no use."""

    def __init__(self) -> None:
        raise CorruptJournal("line 3 is damaged")

    def ask(self) -> None:
        """Never comes to it."""


class Asks:
    """An actor that asks another one, as a training worker asks the queue."""

    def ask(self, other: Any) -> None:
        ray.get(other.ask.remote(), timeout=60)


@pytest.mark.ray
def test_ray_says_what_a_constructor_raised_also_through_another_actor(ray_cluster: None) -> None:
    remote: Any = ray.remote
    dead = remote(DiesAtOnce).options(num_cpus=0, max_restarts=-1).remote()
    asking = remote(Asks).options(num_cpus=0).remote()
    for answer in (dead.ask.remote(), asking.ask.remote(dead)):
        with pytest.raises(ray.exceptions.RayError) as caught:
            ray.get(answer, timeout=60)
        assert not is_lost(caught.value)
        assert str(ending_of(caught.value)) == "line 3 is damaged"


def kinds_of(base: type[Exception]) -> set[type[Exception]]:
    """Return the error classes of the package below `base`, those that this module imports."""
    below = {kind for child in base.__subclasses__() for kind in kinds_of(child)}
    return below | ({base} if base.__module__.startswith("facequarry.") else set())


KINDS = sorted(
    kinds_of(BadInput) | kinds_of(Failure) - {WorkFailed}, key=lambda kind: kind.__name__
)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_its_kind_and_its_sentence_on_its_way_through_ray(
    kind: type[Exception],
) -> None:
    copied = pickle.loads(pickle.dumps(kind("the sentence")))
    assert (type(copied), str(copied)) == (kind, "the sentence")
    raised = through_ray(kind("the sentence"))
    assert isinstance(raised, kind)
    ending = ending_of(raised)
    assert str(ending) == "the sentence"
    assert exit_code_of(ending) == exit_code_of(copied) == (2 if issubclass(kind, BadInput) else 1)


class Raises:
    """An actor that raises one of our errors."""

    def ask(self, kind: type[Exception]) -> None:
        raise kind("the sentence")


@pytest.mark.ray
def test_an_actor_raises_the_kind_that_its_code_raised(ray_cluster: None) -> None:
    remote: Any = ray.remote
    actor = remote(Raises).options(num_cpus=0).remote()
    answers = {kind: actor.ask.remote(kind) for kind in KINDS}
    for kind, answer in answers.items():
        with pytest.raises(kind) as caught:
            ray.get(answer, timeout=60)
        assert str(ending_of(caught.value)) == "the sentence"


def test_a_lost_controller_takes_the_group_with_it() -> None:
    assert "the group of training workers was lost" in lost_reason(GONE, workers=1)


@pytest.mark.parametrize(
    ("cause", "kind", "words"),
    [
        (CheckpointMismatch("weights do not fit"), BadRun, "weights do not fit"),
        (CorruptCheckpoint("bytes changed"), BadRun, "bytes changed"),
        (through_ray(EmptyGeneration("too few rows")), BadRun, "too few rows"),
        (NotFinite("the loss is nan"), RunFailed, "the loss is nan"),
        (BadInput("no such index"), BadRun, "no such index"),
        (through_ray(MiningFailed("5 failed")), RunFailed, "5 failed"),
        (ValueError("a bug of ours or numpy's"), RunFailed, "ValueError: a bug of ours or numpy's"),
        (KeyError("step"), RunFailed, "KeyError: 'step'"),
    ],
)
def test_what_the_user_can_mend_is_bad_input_and_the_rest_failed(
    cause: Exception, kind: type[Exception], words: str
) -> None:
    ending = ending_of(cause)
    assert (type(ending), str(ending)) == (kind, words)
    assert exit_code_of(ending) == (1 if kind is RunFailed else 2)
