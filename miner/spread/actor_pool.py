"""Ray actors that embed and search for a refresh: tasks go in, answers come out.

An actor that dies is replaced, and its tasks are done again; what is raised in one ends the
refresh. Beside `miner.actors` the only module of this package that knows Ray.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from facequarry.datasets.disk.errors import TimedOut
from facequarry.miner.core.memory import is_out_of_memory
from facequarry.miner.spread.schedule import TASKS_IN_HAND, Schedule, WorkersDied

T = TypeVar("T")

_START_TIMEOUT_S = 300.0
_ANSWER_TIMEOUT_S = 1800.0
_GET_TIMEOUT_S = 60.0

logger = logging.getLogger(__name__)


class ActorPool(Generic[T]):
    """A few actors, by seat; the successor of a dead one takes its seat.

    Args:
        what: what the actors are called in sentences, in the singular.
        start: starts the actor of a seat. It has a method `ready`, called once and first: what is
            raised there keeps its sentence. Ray does not restart it.
        num_actors: seats.

    Raises:
        RuntimeError: Ray is not started.
    """

    def __init__(self, what: str, start: Callable[[int], Any], num_actors: int) -> None:
        if not ray.is_initialized():
            raise RuntimeError(f"Ray is not started, which a {what} needs; call ray.init() first")
        self._what = what
        self._start = start
        self._actors = [start(seat) for seat in range(num_actors)]
        # Only an actor that has started gets a task: one that finds no CPU holds nothing back.
        self._starting = {actor.ready.remote(): seat for seat, actor in enumerate(self._actors)}
        self._is_ready = [False] * num_actors
        self._asked: dict[Any, tuple[int, int]] = {}

    def each(
        self,
        tasks: Sequence[T],
        ask: Callable[[Any, int, T], Any],
        fit: Callable[[T, int], int] | None = None,
        tasks_in_hand: int = TASKS_IN_HAND,
    ) -> Iterator[tuple[T, Any]]:
        """Yield each task once with its answer, in any order.

        Args:
            tasks: given out in this order.
            ask: given an actor, its seat and a task, asks for the answer.
            fit: see `Schedule`, as for `tasks_in_hand`.
            tasks_in_hand: of one actor, at most.

        Raises:
            WorkersDied: actors die again and again.
            TimedOut: no actor started, or none answered, in time.
            BadInput, MemoryError, OSError, ImportError: as an actor raised it.
            RuntimeError: an actor failed by a fault of ours.
        """
        schedule = Schedule(tasks, len(self._actors), fit, tasks_in_hand)
        self._asked.clear()
        while schedule.num_open:
            for seat, actor in enumerate(self._actors):
                while self._is_ready[seat] and (given := schedule.next_for(seat)):
                    self._asked[ask(actor, seat, given[1])] = (seat, given[0])
            answer = self._first_answer(schedule)
            try:
                found = ray.get(answer, timeout=_GET_TIMEOUT_S)
            except RayTaskError as error:
                raise self._as_raised(error) from error
            except RayError as error:
                self._replace(answer, schedule, str(error).partition("\n")[0])
                continue
            if answer in self._starting:
                self._is_ready[self._starting.pop(answer)] = True
            else:
                yield schedule.answered(*self._asked.pop(answer)), found

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)

    def _first_answer(self, schedule: Schedule[T]) -> Any:
        timeout_s = _ANSWER_TIMEOUT_S if self._asked else _START_TIMEOUT_S
        answers, _ = ray.wait([*self._asked, *self._starting], num_returns=1, timeout=timeout_s)
        if answers:
            return answers[0]
        if self._asked:
            raise TimedOut(
                f"no {self._what} answered in {timeout_s:.0f} s; waited for {len(self._asked)} of "
                f"{schedule.num_open} tasks"
            )
        raise TimedOut(
            f"no {self._what} started in {timeout_s:.0f} s; waited for a place on the cluster, "
            f"which has {_free()}"
        )

    def _replace(self, answer: Any, schedule: Schedule[T], reason: str) -> None:
        """Let another actor take the seat of a dead one; its tasks are to be done again."""
        seat = self._starting[answer] if answer in self._starting else self._asked[answer][0]
        # What a dying actor may still answer is not looked at: its tasks are somebody else's now.
        self._asked = {key: held for key, held in self._asked.items() if held[0] != seat}
        self._starting = {key: other for key, other in self._starting.items() if other != seat}
        ray.kill(self._actors[seat])
        try:
            num_tasks = schedule.bury(seat, reason)
        except WorkersDied as error:
            raise WorkersDied(f"{self._what}s die: {error}") from error
        logger.warning("a %s died, its %d tasks are done again: %s", self._what, num_tasks, reason)
        self._actors[seat] = self._start(seat)
        self._is_ready[seat] = False
        self._starting[self._actors[seat].ready.remote()] = seat

    def _as_raised(self, error: RayTaskError) -> BaseException:
        """Return what an actor raised, where its sentence is meant for a user."""
        cause = error.cause
        if is_out_of_memory(cause):
            return MemoryError(f"a {self._what} has no memory left: {cause}")
        if isinstance(cause, ValueError | OSError | ImportError):
            return cause
        return RuntimeError(f"a {self._what} failed: {error}")


@contextlib.contextmanager
def actor_pool(
    what: str,
    actor_class: type,
    num_actors: int,
    arguments: Callable[[int], tuple[Any, ...]],
    *,
    num_cpus: float,
    num_gpus: float = 0.0,
) -> Iterator[ActorPool[Any]]:
    """Yield a pool of actors for the block.

    Args:
        what: see `ActorPool`.
        actor_class: of the actors, with a method `ready`.
        num_actors: how many.
        arguments: what the actor of a seat is made with; references stand for their objects.
        num_cpus: that each reserves.
        num_gpus: likewise.
    """
    remote: Any = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=0)(actor_class)
    pool = ActorPool[Any](what, lambda seat: remote.remote(*arguments(seat)), num_actors)
    with contextlib.closing(pool):
        yield pool


def resources(which: str) -> dict[str, float]:
    """Return the resources of the `cluster`, or those `available`."""
    # Ray leaves these two queries untyped.
    found: dict[str, float] = getattr(ray, f"{which}_resources")()
    return found


def _free() -> str:
    """Say what is free of the cluster's CPUs, and of its GPUs where it has any."""
    total, free = resources("cluster"), resources("available")
    kinds = ("CPU", "GPU") if total.get("GPU") else ("CPU",)
    return " and ".join(
        f"{free.get(kind, 0):g} {kind}s free of {total.get(kind, 0):g}" for kind in kinds
    )


def put(value: object) -> Any:
    """Put a value into Ray's object store, once for any number of actors; return its reference.

    It stays there for as long as the reference is held, and with it this process.
    """
    return ray.put(value)
