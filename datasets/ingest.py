"""Photos to a published snapshot of faces, on Ray actors; the only module here that knows Ray.

    facequarry ingest --source photos --out faces

Each task is a list of photos that becomes one shard, durable by itself. An ingest that was killed
goes on from its finished shards and publishes the bytes that an undisturbed one would have.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from datasets.config import IngestConfig
from datasets.detect import make_detector
from datasets.events import EventLog, read_events
from datasets.lock import WriterLock
from datasets.pictures import write_faces_page, write_rejects_page
from datasets.plan import IngestPlan, check_options, plan_ingest, sweep_unnamed_shards
from datasets.publish import sweep_staging
from datasets.schema import FaceOptions
from datasets.shard import REJECTS, SHARDS, ShardMaker, ShardSummary, ShardTask, face_options
from datasets.snapshots import (
    SNAPSHOTS,
    Snapshot,
    count_rejects,
    publish_snapshot,
    read_snapshot,
    snapshot_numbers,
)
from datasets.sources import scan_photos
from datasets.tally import IngestProgress, Tally

__all__ = ["IngestProgress", "IngestReport", "NoFaces", "ingest"]

logger = logging.getLogger(__name__)

WRITER_LOCK = ".writer.lock"
EVENTS = "events"
PICTURES = "pictures"
_START_TIMEOUT_S = 300.0
_GET_TIMEOUT_S = 60.0


class NoFaces(ValueError):
    """No photo gave a face; the sentence counts the reasons."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did. Counts of photos, faces and rejects speak of the whole snapshot."""

    snapshot: int
    is_published: bool
    """False where there was nothing new, and the snapshot is the one of before."""
    photos: int
    faces: int
    identities: int
    rejects: dict[str, int]
    """Rejected photos by reason."""
    left_out: dict[str, int]
    """Photos of the source that were not looked at, by reason."""
    new_photos: int
    """Photos that no snapshot had looked at before."""
    made_photos: int
    """Photos that this ingest looked at itself: the new ones, less those in reused shards."""
    shards_made: int
    shards_reused: int
    """Finished shards of an ingest that was interrupted."""
    seconds: float
    pictures: tuple[Path, ...]
    """Contact sheets of faces and of rejects."""


def ingest(
    source: Path,
    out: Path,
    config: IngestConfig,
    on_progress: Callable[[IngestProgress], None] | None = None,
    *,
    maker: type[ShardMaker] = ShardMaker,
) -> IngestReport:
    """Make faces of a folder's new photos and publish them as the next snapshot.

    Ray must be started. Source and faces root must be reachable under the same paths on every
    node that runs actors. Interrupted, it leaves its finished shards for the next ingest.

    Args:
        source: folder of identity folders.
        out: the faces root, made if absent.
        config: how photos become faces.
        on_progress: called at the start and after every shard.
        maker: the class that the actors are made of.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: the source has no photos, or the root's faces were made with other options.
        NoFaces: no photo gave a face; nothing is published.
        LockHeld: another process writes to this root.
        RuntimeError: Ray is not started, or a shard's actors died again and again.
        TimeoutError: no actor started, or no shard was finished, in time.
        OSError: the root cannot be written.
    """
    clock = time.monotonic()
    source, out = source.absolute(), out.absolute()
    listing = scan_photos(source, min_photos_per_identity=config.min_photos_per_identity)
    options = face_options(config, make_detector(config))
    if not ray.is_initialized():
        raise RuntimeError("Ray is not started; call ray.init() first, or use: facequarry ingest")
    with WriterLock(out / WRITER_LOCK):
        for folder in ("", SHARDS, REJECTS, SNAPSHOTS, PICTURES):
            sweep_staging(out / folder)
        current = read_snapshot(out) if snapshot_numbers(out) else None
        check_options(current, options)
        plan = plan_ingest(out, listing.photos, current, options, config.photos_per_shard)
        tally = Tally(plan, _event_log(out), on_progress)
        try:
            made = _make_shards(
                plan.open_tasks, lambda: _start(maker, source, out, config), config, tally
            )
            snapshot = _publish(out, plan, current, options, made)
            pictures = _draw(source, out, snapshot, is_new=snapshot is not current)
        except BaseException as error:
            tally.stopped(error)
            raise
        tally.ended(snapshot, is_new=snapshot is not current)
    return IngestReport(
        snapshot=snapshot.number,
        is_published=snapshot is not current,
        photos=snapshot.num_photos,
        faces=snapshot.num_faces,
        identities=snapshot.num_identities,
        rejects=snapshot.rejects,
        left_out=listing.left_out,
        new_photos=sum(len(task.photos) for task in plan.tasks),
        made_photos=sum(len(task.photos) for task in plan.open_tasks),
        shards_made=len(made),
        shards_reused=len(plan.finished),
        seconds=time.monotonic() - clock,
        pictures=pictures,
    )


def _make_shards(
    tasks: Sequence[ShardTask],
    start: Callable[[], Any],
    config: IngestConfig,
    tally: Tally,
) -> dict[int, ShardSummary]:
    """Make the tasks' shards on actors; return their summaries by task index."""
    if not tasks:
        return {}
    num_actors = config.actors or max(1, int(_num_cpus("cluster_resources")))
    made: dict[int, ShardSummary] = {}
    with closing(_run_pool(tasks, start, min(num_actors, len(tasks)), config)) as finished:
        for task, summary in finished:
            made[task.index] = summary
            tally.add(summary)
    return made


def _run_pool(
    tasks: Sequence[ShardTask], start: Callable[[], Any], num_actors: int, config: IngestConfig
) -> Generator[tuple[ShardTask, ShardSummary]]:
    """Yield tasks with their summaries as they are finished; a dead actor's task is done again."""
    pending = deque(tasks)
    deaths: Counter[int | None] = Counter()
    # What each answer is waited for: an actor and its task, or None while it starts. Only an
    # actor that has started gets a task: one that finds no CPU holds nothing back.
    waiting: dict[Any, tuple[Any, ShardTask | None]] = {}

    def add_actor() -> None:
        actor = start()
        waiting[actor.ready.remote()] = (actor, None)

    try:
        for _ in range(num_actors):
            add_actor()
        num_open = len(tasks)
        while num_open:
            answer = _wait_for_one(waiting, config)
            actor, task = waiting.pop(answer)
            try:
                summary = ray.get(answer, timeout=_GET_TIMEOUT_S)
            except RayTaskError as error:
                ray.kill(actor)
                cause: BaseException = error.as_instanceof_cause()
                raise cause from None
            except GetTimeoutError:
                raise
            except RayError as error:
                ray.kill(actor)
                index = None if task is None else task.index
                deaths[index] += 1
                if deaths[index] > config.shard_retries:
                    raise RuntimeError(_too_many_deaths(task, deaths[index], error)) from error
                logger.warning("a detection actor died (%s); its shard is made again", error)
                if task is not None:
                    pending.appendleft(task)
                add_actor()
                continue
            if task is not None:
                num_open -= 1
                yield task, summary
            if pending:
                following = pending.popleft()
                waiting[actor.make.remote(following)] = (actor, following)
            else:
                ray.kill(actor)
    finally:
        for actor, _ in waiting.values():
            ray.kill(actor)


def _wait_for_one(waiting: dict[Any, tuple[Any, ShardTask | None]], config: IngestConfig) -> Any:
    """Return the first answer that is there."""
    tasks = [task for _, task in waiting.values() if task is not None]
    timeout_s = config.shard_timeout_s if tasks else _START_TIMEOUT_S
    answers, _ = ray.wait(list(waiting), num_returns=1, timeout=timeout_s)
    if answers:
        return answers[0]
    if tasks:
        raise TimeoutError(
            f"no shard was finished in {timeout_s:.0f} s; waited for {len(tasks)}, the first with "
            f"{len(tasks[0].photos)} photos from {tasks[0].photos[0].source}; finished ones are "
            "kept: run it again, with a longer shard_timeout_s or fewer photos_per_shard"
        )
    raise TimeoutError(
        f"no detection actor started in {timeout_s:.0f} s; waited for one CPU, the cluster has "
        f"{_num_cpus('available_resources'):g} free of {_num_cpus('cluster_resources'):g}"
    )


def _num_cpus(query: str) -> float:
    # Ray leaves these two queries untyped.
    return float(getattr(ray, query)().get("CPU", 0))


def _too_many_deaths(task: ShardTask | None, deaths: int, error: RayError) -> str:
    if task is None:
        return f"detection actors died {deaths} times while starting; the last one: {error}"
    return (
        f"the actor that made shard {task.shard} died {deaths} times; one of its "
        f"{len(task.photos)} photos from {task.photos[0].source} to {task.photos[-1].source} may "
        f"be the cause; finished shards are kept; the last death: {error}"
    )


def _start(maker: type[ShardMaker], source: Path, out: Path, config: IngestConfig) -> Any:
    # No restarts by Ray: the pool starts a new actor and counts.
    actor_class = ray.remote(num_cpus=1, max_restarts=0)(maker)
    return actor_class.remote(source, out, config)


def _publish(
    out: Path,
    plan: IngestPlan,
    current: Snapshot | None,
    options: FaceOptions,
    made: dict[int, ShardSummary],
) -> Snapshot:
    """Publish the next snapshot; return the current one where there is nothing new."""
    if current is not None and not plan.tasks:
        return current
    by_index = plan.finished | made
    added = [by_index[task.index] for task in plan.tasks]
    if current is None and not any(summary.rows for summary in added):
        counts = ", ".join(f"{reason} {count}" for reason, count in count_rejects(added).items())
        raise NoFaces(
            f"none of {sum(summary.num_photos for summary in added)} photos gave a face "
            f"({counts}); nothing was published; try another detector"
        )
    snapshot = publish_snapshot(out, options.to_json(), added)
    sweep_unnamed_shards(out, snapshot)
    return snapshot


def _draw(source: Path, out: Path, snapshot: Snapshot, *, is_new: bool) -> tuple[Path, ...]:
    faces, rejects = out / PICTURES / "faces.png", out / PICTURES / "rejects.png"
    if is_new or not faces.is_file():
        write_faces_page(out, snapshot, faces)
    if snapshot.rejects and (is_new or not rejects.is_file()):
        write_rejects_page(out, source, snapshot, rejects)
    return tuple(path for path in (faces, rejects) if path.is_file())


def _event_log(out: Path) -> EventLog:
    attempts = [event["attempt"] for event in read_events(out / EVENTS, "ingest")]
    return EventLog(out / EVENTS, "ingest", attempt=1 + max(attempts, default=0))
