"""Ray actors that do tasks: tasks go in, answers come out, deaths are worked around.

An actor that dies is replaced, and its tasks are done again; what is raised in one ends the work.
An actor is dead when Ray says so, never because an answer of its takes long to arrive.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import (
    GetTimeoutError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectFetchTimedOutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)

from facequarry.datasets.actors.schedule import TASKS_IN_HAND, Death, Schedule
from facequarry.datasets.disk.errors import BadInput, Failure, TimedOut

T = TypeVar("T")

MOST_DEATHS = 3
"""Of workers in a row at one task, or at none: more is no accident."""

_START_TIMEOUT_S = 300.0
_KILL_TIMEOUT_S = 30.0

# What Ray raises where an actor, its process, its node or its answer is gone. What else it raises
# (a full object store, a full disk) another actor would meet too.
_DEATHS = (
    RayActorError,
    WorkerCrashedError,
    NodeDiedError,
    OutOfMemoryError,
    ObjectLostError,
    LocalRayletDiedError,
)

OnDeath = Callable[[Death[Any], str], None]
"""Given a death and what Ray says of it; raises where it is not to be worked around."""

logger = logging.getLogger(__name__)


class WorkersDied(Failure):
    """Actors die again and again."""


class ActorPool(Generic[T]):
    """A few actors, by seat; the successor of a dead one takes its seat.

    Args:
        what: what the actors are called in sentences, in the singular.
        start: starts the actor of a seat. It has a method `ready`, called once and first: what is
            raised there keeps its sentence. Ray does not restart it.
        num_actors: seats; they are filled by `each`, as many as there are tasks for. None: one
            for each CPU of the cluster.
        on_death: None gives up after `MOST_DEATHS` at one task, or while starting.
        timeout_s: longest wait for an answer, s.
        late: says more of the tasks that were waited for in vain.
        is_death: whether what an actor raised is to be taken for its death.
        is_memory: whether it means that memory ran out; what is said then names the actor.

    Raises:
        RuntimeError: Ray is not started.
    """

    def __init__(
        self,
        what: str,
        start: Callable[[int], Any],
        num_actors: int | None,
        *,
        on_death: OnDeath | None = None,
        timeout_s: float = 1800.0,
        late: Callable[[Sequence[T]], str] = lambda tasks: "",
        is_death: Callable[[BaseException], bool] = lambda error: False,
        is_memory: Callable[[BaseException], bool] = lambda error: isinstance(error, MemoryError),
    ) -> None:
        if not ray.is_initialized():
            raise RuntimeError(f"Ray is not started, which a {what} needs; call ray.init() first")
        self._what = what
        self._start = start
        self._num_actors = num_actors or max(1, int(resources("cluster").get("CPU", 0)))
        self._on_death = on_death or self._give_up
        self._timeout_s = timeout_s
        self._late = late
        self._is_death = is_death
        self._is_memory = is_memory
        self._actors: list[Any] = []
        # Only an actor that has started gets a task: one that finds no CPU holds nothing back.
        self._starting: dict[Any, int] = {}
        self._is_ready: list[bool] = []
        self._asked: dict[Any, tuple[int, int]] = {}

    def each(
        self,
        tasks: Sequence[T],
        ask: Callable[[Any, int, T], Any],
        tasks_in_hand: int = TASKS_IN_HAND,
    ) -> Iterator[tuple[T, Any]]:
        """Yield each task once with its answer, in any order.

        Args:
            tasks: given out in this order.
            ask: given an actor, its seat and a task, asks for the answer.
            tasks_in_hand: of one actor, at most.

        Raises:
            WorkersDied: actors die again and again, unless `on_death` says otherwise.
            TimedOut: no actor started, none answered, or an answer did not arrive, in time.
            Failure: Ray itself could not deliver an answer, such as from a full object store.
            BadInput, Failure, MemoryError, OSError, ImportError: as an actor raised it.
            RuntimeError: an actor failed by a fault of ours.
        """
        for seat in range(len(self._actors), min(self._num_actors, len(tasks))):
            self._actors.append(None)
            self._is_ready.append(False)
            self._fill(seat)
        schedule = Schedule(tasks, len(self._actors), tasks_in_hand)
        self._asked.clear()
        while schedule.num_open:
            for seat, actor in enumerate(self._actors):
                while self._is_ready[seat] and (given := schedule.next_for(seat)):
                    self._asked[ask(actor, seat, given[1])] = (seat, given[0])
            answer = self._first_answer(schedule)
            try:
                found = self._fetch(answer)
            except RayTaskError as error:
                if not self._is_death(error.cause):
                    raise self._as_raised(error, error.cause) from error
                self._replace(answer, schedule, _first_line(error))
                continue
            except _DEATHS as error:
                self._replace(answer, schedule, _first_line(error))
                continue
            if answer in self._starting:
                self._is_ready[self._starting.pop(answer)] = True
                schedule.started()
            else:
                yield schedule.answered(*self._asked.pop(answer)), found

    def close(self) -> None:
        """End the actors, and wait until Ray calls those dead that had tasks in hand."""
        for actor in self._actors:
            ray.kill(actor)
        if in_hand := list(self._asked):
            # Ray kills from afar: an answer comes, an error, when the actor is gone.
            _, alive = ray.wait(in_hand, num_returns=len(in_hand), timeout=_KILL_TIMEOUT_S)
            if alive:
                logger.warning("%d tasks did not end in %.0f s", len(alive), _KILL_TIMEOUT_S)
        self._actors, self._is_ready = [], []
        self._asked.clear()
        self._starting.clear()

    def _fill(self, seat: int) -> None:
        self._actors[seat] = self._start(seat)
        self._is_ready[seat] = False
        self._starting[self._actors[seat].ready.remote()] = seat

    def _first_answer(self, schedule: Schedule[T]) -> Any:
        timeout_s = self._timeout_s if self._asked else _START_TIMEOUT_S
        answers, _ = ray.wait([*self._asked, *self._starting], num_returns=1, timeout=timeout_s)
        if answers:
            return answers[0]
        if self._asked:
            raise TimedOut(
                f"no {self._what} answered in {timeout_s:.0f} s; waited for {len(self._asked)} of "
                f"{schedule.num_open} tasks{self._late(schedule.in_hand())}"
            )
        raise TimedOut(
            f"no {self._what} started in {timeout_s:.0f} s; waited for a place on the cluster, "
            f"which has {_free()}"
        )

    def _fetch(self, answer: Any) -> Any:
        """Return an answer that is there, however long its bytes travel: that is no death."""
        try:
            return ray.get(answer, timeout=self._timeout_s)
        except (GetTimeoutError, ObjectFetchTimedOutError) as error:
            # `ray.wait` fetches too, and Ray itself gives a fetch up, before our time is over.
            is_ours = isinstance(error, GetTimeoutError)
            limit = f"in {self._timeout_s:.0f} s" if is_ours else "in Ray's own time for a fetch"
            raise TimedOut(
                f"the answer of a {self._what} did not arrive {limit}; look at the network, and at "
                "the space of Ray's object store"
            ) from error
        except (*_DEATHS, RayTaskError):
            raise
        except RayError as error:
            raise Failure(f"Ray lost the answer of a {self._what}: {_first_line(error)}") from error

    def _replace(self, answer: Any, schedule: Schedule[T], reason: str) -> None:
        """Let another actor take the seat of a dead one; its tasks are to be done again."""
        seat = self._starting[answer] if answer in self._starting else self._asked[answer][0]
        # What a dying actor may still answer is not looked at: its tasks are somebody else's now.
        self._asked = {key: held for key, held in self._asked.items() if held[0] != seat}
        self._starting = {key: other for key, other in self._starting.items() if other != seat}
        ray.kill(self._actors[seat])
        death = schedule.bury(seat)
        logger.warning(
            "a %s died, its %d tasks are done again: %s", self._what, death.num_tasks, reason
        )
        self._on_death(death, reason)
        self._fill(seat)

    def _give_up(self, death: Death[T], reason: str) -> None:
        if death.deaths >= MOST_DEATHS:
            where = "while starting" if death.task is None else f"at {death.task}"
            raise WorkersDied(
                f"{self._what}s die: {death.deaths} of them died {where}; the last one: {reason}"
            )

    def _as_raised(self, error: RayTaskError, cause: BaseException) -> BaseException:
        """Return what an actor raised, where its sentence is meant for a person."""
        if self._is_memory(cause):
            return MemoryError(f"a {self._what} has no memory left: {cause}")
        if isinstance(cause, BadInput | Failure | OSError | ImportError):
            return cause
        return RuntimeError(f"a {self._what} failed: {error}")


def starter(
    actor_class: type,
    arguments: Callable[[int], tuple[Any, ...]],
    *,
    num_cpus: float,
    num_gpus: float = 0.0,
) -> Callable[[int], Any]:
    """Return what starts the actor of a seat; Ray does not restart it, the pool counts.

    Args:
        actor_class: of the actors, with a method `ready`.
        arguments: what the actor of a seat is made with; references stand for their objects.
        num_cpus: that each reserves.
        num_gpus: likewise.
    """
    remote: Any = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_restarts=0)
    actors = remote(actor_class)
    return lambda seat: actors.remote(*arguments(seat))


@contextlib.contextmanager
def actor_pool(
    what: str,
    actor_class: type,
    num_actors: int,
    arguments: Callable[[int], tuple[Any, ...]],
    *,
    num_cpus: float,
    num_gpus: float = 0.0,
    is_memory: Callable[[BaseException], bool] = lambda error: isinstance(error, MemoryError),
) -> Iterator[ActorPool[Any]]:
    """Yield a pool of actors for the block; arguments as those of `ActorPool` and `starter`."""
    start = starter(actor_class, arguments, num_cpus=num_cpus, num_gpus=num_gpus)
    with contextlib.closing(ActorPool[Any](what, start, num_actors, is_memory=is_memory)) as pool:
        yield pool


def resources(which: str) -> dict[str, float]:
    """Return the resources of the `cluster`, or those `available`."""
    # Ray leaves these two queries untyped.
    found: dict[str, float] = getattr(ray, f"{which}_resources")()
    return found


def put(value: object) -> Any:
    """Put a value into Ray's object store, once for any number of actors; return its reference.

    It stays there for as long as the reference is held, and with it this process.
    """
    return ray.put(value)


def _free() -> str:
    """Say what is free of the cluster's CPUs, and of its GPUs where it has any."""
    total, free = resources("cluster"), resources("available")
    kinds = ("CPU", "GPU") if total.get("GPU") else ("CPU",)
    return " and ".join(
        f"{free.get(kind, 0):g} {kind}s free of {total.get(kind, 0):g}" for kind in kinds
    )


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
