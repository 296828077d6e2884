"""Detection actors on Ray: tasks go in, finished shards come out, deaths are worked around.

The only module of this package that knows Ray.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.disk.errors import Failure, TimedOut
from facequarry.datasets.faces.schema import SourceChanged
from facequarry.datasets.faces.shards import ShardSummary
from facequarry.datasets.ingest.shard_maker import ShardMaker, in_hand_path
from facequarry.datasets.ingest.shard_tasks import ShardTask
from facequarry.datasets.sources.photos import Source

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 300.0
_GET_TIMEOUT_S = 60.0
_KILL_TIMEOUT_S = 30.0
# Enough that an actor never waits for the driver.
_TASKS_IN_HAND = 2
# Of one task, beyond `shard_retries`: two for each of eight photos that kill their process.
_MAX_DEATHS = 16


class ActorsDied(Failure):
    """Detection actors die again and again, and not of single photos."""


class ShardPool:
    """Actors of one CPU each that make shards; they stay until `close`.

    A dead actor is replaced and its tasks are done again. A task whose actors died
    `shard_retries` times is done carefully: then the photo in hand is known when the next one dies,
    and one that was in hand twice is rejected as `crashed`.

    Args:
        source: where the photos are; reachable under the same path on every node.
        root: the faces root; likewise.
        config: how photos become faces.
        maker: the class that the actors are made of.

    Raises:
        RuntimeError: Ray is not started.
    """

    def __init__(
        self, source: Source, root: Path, config: IngestConfig, maker: type[ShardMaker]
    ) -> None:
        if not ray.is_initialized():
            raise RuntimeError(
                "Ray is not started; call ray.init() first, or use: facequarry ingest"
            )
        # No restarts by Ray: the pool starts a new actor and counts.
        actor_class: Any = ray.remote(num_cpus=1, max_restarts=0)(maker)
        self._start: Callable[[], Any] = lambda: actor_class.remote(source, root, config)
        self._root = root
        self._config = config
        self._num_actors = config.actors or max(1, int(_num_cpus("cluster_resources")))
        # Only an actor that has started gets a task: one that finds no CPU holds nothing back.
        self._starting: dict[Any, Any] = {}
        self._actors: list[Any] = []
        self._work = _Work((), config, root)

    def make(self, tasks: Sequence[ShardTask]) -> Iterator[tuple[ShardTask, ShardSummary]]:
        """Yield tasks with their summaries as they are finished, in any order.

        Raises:
            ActorsDied: actors die again and again, and not of single photos.
            RuntimeError: an actor failed by a fault of ours.
            TimedOut: no actor started, or no shard was finished, in time.
            OSError: the root cannot be written.
        """
        work = self._work = _Work(tasks, self._config, self._root)
        wanted = min(self._num_actors, len(tasks))
        while len(self._actors) + len(self._starting) < wanted:
            self._add_actor()
        while work.num_open:
            for actor in self._actors:
                work.give(actor)
            answer = self._wait_for_one(work)
            starting = self._starting.pop(answer, None)
            try:
                summary = ray.get(answer, timeout=_GET_TIMEOUT_S)
            except GetTimeoutError:
                raise
            except RayError as error:
                if isinstance(error, RayTaskError) and not isinstance(error.cause, MemoryError):
                    raise _as_raised(error) from error
                actor = starting or work.actor_of(answer)
                ray.kill(actor)
                logger.warning(
                    "a detection actor died; its work is done again: %s", _first_line(error)
                )
                work.bury(actor, error)
                if actor in self._actors:
                    self._actors.remove(actor)
                self._add_actor()
                continue
            if starting is not None:
                work.deaths.pop(None, None)
                self._actors.append(starting)
            else:
                yield work.done(answer), summary

    def close(self) -> None:
        """End the actors, and wait until Ray calls them dead.

        What one of them stages in its last moment is swept by the next ingest.
        """
        for actor in [*self._actors, *self._starting.values()]:
            ray.kill(actor)
        in_hand = list(self._work.waiting)
        if in_hand:
            # Ray kills from afar: an answer comes, an error, when the actor is gone.
            _, alive = ray.wait(in_hand, num_returns=len(in_hand), timeout=_KILL_TIMEOUT_S)
            if alive:
                logger.warning("%d tasks did not end in %.0f s", len(alive), _KILL_TIMEOUT_S)
        self._actors.clear()
        self._starting.clear()

    def _add_actor(self) -> None:
        actor = self._start()
        self._starting[actor.ready.remote()] = actor

    def _wait_for_one(self, work: _Work) -> Any:
        """Return the first answer that is there."""
        timeout_s = self._config.resolved_shard_timeout_s if work.waiting else _START_TIMEOUT_S
        answers, _ = ray.wait([*work.waiting, *self._starting], num_returns=1, timeout=timeout_s)
        if answers:
            return answers[0]
        if work.waiting:
            task = next(iter(work.waiting.values()))[1]
            raise TimedOut(
                f"no shard was finished in {timeout_s:.0f} s; waited for {len(work.waiting)}, the "
                f"first with {task.num_photos} photos from {task.photos[0].source}; finished ones "
                "are kept: run it again, with a longer shard_timeout_s or fewer photos_per_shard"
            )
        raise TimedOut(
            f"no detection actor started in {timeout_s:.0f} s; waited for one CPU, the cluster has "
            f"{_num_cpus('available_resources'):g} free of {_num_cpus('cluster_resources'):g}"
        )


class _Work:
    """Tasks that wait, are in hand, or killed their actors."""

    def __init__(self, tasks: Sequence[ShardTask], config: IngestConfig, root: Path) -> None:
        self.num_open = len(tasks)
        self.waiting: dict[Any, tuple[Any, ShardTask]] = {}
        """Actor and task of each answer that is awaited, in the order of asking."""
        self._pending = deque(tasks)
        self._retries = config.shard_retries
        self._root = root
        self.deaths: Counter[int | None] = Counter()
        """Deaths of actors by task, and under None while they started."""
        self._suspects: dict[int, str] = {}
        self._crashed: defaultdict[int, set[str]] = defaultdict(set)

    def actor_of(self, answer: Any) -> Any:
        return self.waiting[answer][0]

    def give(self, actor: Any) -> None:
        """Give an actor tasks until it has enough in hand."""
        in_hand = sum(other is actor for other, _ in self.waiting.values())
        for _ in range(min(_TASKS_IN_HAND - in_hand, len(self._pending))):
            task = self._pending.popleft()
            careful = self.deaths[task.index] >= max(1, self._retries)
            in_hand_path(self._root, task.shard).unlink(missing_ok=True)
            crashed = frozenset(self._crashed[task.index])
            answer = actor.make.remote(task, crashed, careful=careful)
            self.waiting[answer] = (actor, task)

    def done(self, answer: Any) -> ShardTask:
        """Take a finished task's answer."""
        self.num_open -= 1
        return self.waiting.pop(answer)[1]

    def bury(self, actor: Any, error: RayError) -> None:
        """Take back a dead actor's tasks, and find out what it died of.

        Raises:
            ActorsDied: it is not to be worked around.
        """
        answers = [answer for answer, (other, _) in self.waiting.items() if other is actor]
        tasks = [self.waiting.pop(answer)[1] for answer in answers]
        self._pending.extendleft(reversed(tasks))
        index = tasks[0].index if tasks else None
        self.deaths[index] += 1
        if self.deaths[index] <= self._retries:
            return
        if not tasks:
            raise ActorsDied(
                f"detection actors died {self.deaths[None]} times while starting; the last one: "
                f"{_first_line(error)}"
            ) from error
        self._find_crasher(tasks[0], error)

    def _find_crasher(self, task: ShardTask, error: RayError) -> None:
        """Reject the photo that was in hand at two deaths of a task, one after the other.

        One death says nothing about the photo: nodes go away, and memory runs out.
        """
        path, crashed = in_hand_path(self._root, task.shard), self._crashed[task.index]
        source = path.read_text(encoding="utf-8") if path.is_file() else None
        if source is None or self.deaths[task.index] > self._retries + _MAX_DEATHS:
            raise ActorsDied(
                f"the actor that made shard {task.shard} died {self.deaths[task.index]} times, and "
                f"not at one photo alone; it is about {task.num_photos} photos from "
                f"{task.photos[0].source}; finished shards are kept; the last death: "
                f"{_first_line(error)}"
            ) from error
        if self._suspects.get(task.index) == source:
            logger.warning("photo %s ended its process again; it is rejected", source)
            crashed.add(source)
        self._suspects[task.index] = source


def _as_raised(error: RayTaskError) -> BaseException:
    """Return what ended a task as it was raised, where a user can mend it.

    Anything else is a fault of ours, and keeps the actor's traceback.
    """
    if isinstance(error.cause, OSError | SourceChanged):
        return error.cause
    return RuntimeError(f"a detection actor failed: {error}")


def _first_line(error: RayError) -> str:
    return str(error).partition("\n")[0]


def _num_cpus(query: str) -> float:
    # Ray leaves these two queries untyped.
    return float(getattr(ray, query)().get("CPU", 0))
