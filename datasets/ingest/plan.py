"""What an ingest has left to do: new photos into tasks, and finished shards found again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from facequarry.datasets.disk.errors import BadInput, Damaged
from facequarry.datasets.disk.parquet import reading_parquet
from facequarry.datasets.disk.publish import sha256_file
from facequarry.datasets.faces.schema import FaceOptions
from facequarry.datasets.faces.shards import REJECTS, SHARDS, ShardSummary, read_summary
from facequarry.datasets.faces.snapshots import Snapshot
from facequarry.datasets.ingest.shard_maker import in_hand_path
from facequarry.datasets.ingest.shard_tasks import ShardTask, plan_tasks, task_digest
from facequarry.datasets.sources.photos import photos_of

_SHARD_NAME = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """The tasks between the current snapshot and the next one."""

    tasks: list[ShardTask]
    """In the order of their first photos; `index` is the position."""
    finished: dict[int, ShardSummary]
    """By index: shards that an interrupted ingest finished."""

    @property
    def open_tasks(self) -> list[ShardTask]:
        """Tasks whose shard must be made."""
        return [task for task in self.tasks if task.index not in self.finished]


def plan_ingest(
    root: Path,
    photos: pa.Table,
    current: Snapshot | None,
    options: FaceOptions,
    photos_per_shard: int,
) -> IngestPlan:
    """Plan the next snapshot.

    A finished shard that no snapshot names is used when its photos and options are still what
    they were. Cutting whole tasks out of a list leaves the other cuts where they were: the result
    is the same as without the interruption.

    Args:
        root: the faces root.
        photos: the photos to look at: a listing's rows, sorted, or those of `find_news`.
        current: the current snapshot, None before the first.
        options: what decides a face's bytes.
        photos_per_shard: length of a task.
    """
    named = set() if current is None else {shard.summary.shard for shard in current.shards}
    is_open = np.ones(photos.num_rows, bool)
    reused: dict[str, ShardSummary] = {}
    tasks: list[ShardTask] = []
    unnamed = list(_unnamed_shards(root, named))
    for summary, rows in zip(unnamed, _rows_of(root, unnamed, photos), strict=True):
        if rows is None or not is_open[rows].all():
            continue
        part = photos.take(rows)
        if task_digest(part, options) == summary.digest:
            tasks.append(ShardTask(0, part, summary.digest))
            reused[summary.shard] = summary
            is_open[rows] = False
    tasks += plan_tasks(photos.filter(pa.array(is_open)), options, photos_per_shard)
    tasks.sort(key=lambda task: next(photos_of(task.rows.slice(0, 1))))
    tasks = [replace(task, index=index) for index, task in enumerate(tasks)]
    finished = {task.index: reused[task.shard] for task in tasks if task.shard in reused}
    return IngestPlan(tasks, finished)


def check_options(current: Snapshot | None, options: FaceOptions) -> None:
    """Refuse to mix faces that were made differently.

    Raises:
        BadInput: the root's faces were made with other options; the sentence names them.
    """
    if current is None:
        return
    asked, made = _flat(options.to_json()), _flat(current.options)
    other = [
        f"{name} {made.get(name)} (asked: {asked.get(name)})"
        for name in sorted(asked.keys() | made.keys())
        if asked.get(name) != made.get(name)
    ]
    if other:
        raise BadInput(
            f"the faces of this folder were made with {', '.join(other)}; "
            "use the same options, or ingest into a new folder"
        )


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the detector's own among the others."""
    own = options.get("detector_options")
    others = {name: value for name, value in options.items() if name != "detector_options"}
    return others | {f"detector's {name}": value for name, value in dict(own or {}).items()}


def sweep_unnamed_shards(root: Path, current: Snapshot) -> int:
    """Remove shards that no snapshot names; return how many.

    Call it after publishing and while holding the root's writer lock: what is left then was made
    of photos or with options that are no more.
    """
    named = {shard.summary.shard for shard in current.shards}
    made = [path for folder in (SHARDS, REJECTS) for path in (root / folder).glob("*.*")]
    dead = {path.stem for path in made if _SHARD_NAME.fullmatch(path.stem)} - named
    for shard in dead:
        # The summary goes first: without it the rest is not there.
        (root / SHARDS / f"{shard}.json").unlink(missing_ok=True)
        (root / SHARDS / f"{shard}.parquet").unlink(missing_ok=True)
        in_hand_path(root, shard).unlink(missing_ok=True)
        (root / REJECTS / f"{shard}.parquet").unlink(missing_ok=True)
    return len(dead)


def _unnamed_shards(root: Path, named: set[str]) -> Iterable[ShardSummary]:
    for path in sorted((root / SHARDS).glob("*.json")):
        if path.stem not in named:
            summary = read_summary(root, path.stem)
            if summary is not None and _is_intact(root, summary):
                yield summary
            else:
                # Without its summary it is unfinished, and is made again under the same name.
                path.unlink()


def _is_intact(root: Path, summary: ShardSummary) -> bool:
    """Say whether a shard that no snapshot vouches for yet is what its summary says."""
    faces, rejects = (root / folder / f"{summary.shard}.parquet" for folder in (SHARDS, REJECTS))
    try:
        with reading_parquet(rejects, "it is made again"):
            pq.read_table(rejects, columns=["source"])
        return sha256_file(faces) == summary.sha256
    except (FileNotFoundError, Damaged):
        return False


def _rows_of(
    root: Path, summaries: Sequence[ShardSummary], photos: pa.Table
) -> Iterator[NDArray[np.int64] | None]:
    """Yield the rows of `photos` that each shard looked at; None where it has others too."""
    if not summaries:
        return
    sources = [_sources_of(root, summary) for summary in summaries]
    # One look-up for all of them: it builds a hash table over every photo.
    wanted = photos["source"].combine_chunks()
    found = pc.index_in(pa.concat_arrays(sources), value_set=wanted)
    start = 0
    for source in sources:
        rows = found[start : start + len(source)]
        start += len(source)
        yield None if rows.null_count or not len(rows) else np.sort(rows.to_numpy()).astype(int)


def _sources_of(root: Path, summary: ShardSummary) -> pa.Array:
    paths = [root / folder / f"{summary.shard}.parquet" for folder in (SHARDS, REJECTS)]
    tables = [pq.read_table(path, columns=["source"]) for path in paths]
    return pa.concat_tables(tables)["source"].combine_chunks()
