"""Detection actors: tasks go in, finished shards come out, and photos that kill are found.

What is here is the ingest's own: when a task is done carefully, and when a photo is to blame. The
actors themselves are `actors.pool`'s.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from facequarry.datasets.actors.pool import ActorPool, WorkersDied, starter
from facequarry.datasets.actors.schedule import Death
from facequarry.datasets.config import IngestConfig
from facequarry.datasets.faces.shards import ShardSummary, read_summary
from facequarry.datasets.ingest.shard_maker import ShardMaker, in_hand_path
from facequarry.datasets.ingest.shard_tasks import ShardTask
from facequarry.datasets.sources.photos import Source

logger = logging.getLogger(__name__)

# Of one task, beyond `shard_retries`: two for each of eight photos that kill their process.
_MAX_DEATHS = 16


class ActorsDied(WorkersDied):
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
        self._root = root
        self._retries = config.shard_retries
        self._deaths: Counter[int] = Counter()
        self._suspects: dict[int, str] = {}
        self._crashed: defaultdict[int, set[str]] = defaultdict(set)
        self._pool = ActorPool[ShardTask](
            "detection actor",
            starter(maker, lambda _: (source, root, config), num_cpus=1),
            config.actors,
            on_death=self._on_death,
            timeout_s=config.resolved_shard_timeout_s,
            late=_late,
            # It may be this photo, or the machine: what a dead process would tell.
            is_death=lambda error: isinstance(error, MemoryError),
        )

    def make(self, tasks: Sequence[ShardTask]) -> Iterator[tuple[ShardTask, ShardSummary]]:
        """Yield tasks with their summaries as they are finished, in any order.

        Raises:
            ActorsDied: actors die again and again, and not of single photos.
            RuntimeError: an actor failed by a fault of ours.
            TimedOut: no actor started, or no shard was finished, in time.
            SourceChanged, OSError: the source changed, or the root cannot be written.
        """
        self._deaths.clear()
        self._suspects.clear()
        self._crashed.clear()
        yield from self._pool.each(tasks, self._ask)

    def close(self) -> None:
        """End the actors.

        What one of them stages in its last moment is swept by the next ingest.
        """
        self._pool.close()

    def _ask(self, actor: Any, seat: int, task: ShardTask) -> Any:
        careful = self._deaths[task.index] >= max(1, self._retries)
        in_hand_path(self._root, task.shard).unlink(missing_ok=True)
        return actor.make.remote(task, frozenset(self._crashed[task.index]), careful=careful)

    def _on_death(self, death: Death[ShardTask], reason: str) -> None:
        """Find out what an actor died of.

        Raises:
            ActorsDied: it is not to be worked around.
        """
        if death.task is not None:
            self._deaths[death.task.index] = death.deaths
        if death.deaths <= self._retries:
            return
        if death.task is not None and death.deaths <= self._retries + _MAX_DEATHS:
            if read_summary(self._root, death.task.shard) is not None:
                return  # it was done, and only its answer was lost: the death was at another task
        if death.task is None:
            raise ActorsDied(
                f"detection actors died {death.deaths} times while starting; the last one: {reason}"
            )
        self._find_crasher(death.task, death.deaths, reason)

    def _find_crasher(self, task: ShardTask, deaths: int, reason: str) -> None:
        """Reject the photo that was in hand at two deaths of a task, one after the other.

        One death says nothing about the photo: nodes go away, and memory runs out.
        """
        path, crashed = in_hand_path(self._root, task.shard), self._crashed[task.index]
        source = path.read_text(encoding="utf-8") if path.is_file() else None
        if source is None or deaths > self._retries + _MAX_DEATHS:
            raise ActorsDied(
                f"the actor that made shard {task.shard} died {deaths} times, and not at one photo "
                f"alone; it is about {task.num_photos} photos from {task.photos[0].source}; "
                f"finished shards are kept; the last death: {reason}"
            )
        if self._suspects.get(task.index) == source:
            logger.warning("photo %s ended its process again; it is rejected", source)
            crashed.add(source)
        self._suspects[task.index] = source


def _late(tasks: Sequence[ShardTask]) -> str:
    first = tasks[0]
    return (
        f", the first with {first.num_photos} photos from {first.photos[0].source}; finished ones "
        "are kept: run it again, with a longer shard_timeout_s or fewer photos_per_shard"
    )
