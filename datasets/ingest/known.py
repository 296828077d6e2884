"""What the faces root holds already: every photo that a snapshot looked at, by its source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from facequarry.datasets.disk.parquet import reading_parquet
from facequarry.datasets.faces.schema import FACE_SCHEMA, REJECT_SCHEMA, CorruptShard
from facequarry.datasets.faces.shards import REJECTS, SHARDS, ShardSummary
from facequarry.datasets.sources.photos import Photo, photos_of

BoolArray = NDArray[np.bool_]

_FACE_COLUMNS = ["source", "source_bytes"]
_REJECT_COLUMNS = ["source", "source_bytes", "source_sha256", "reason"]


@dataclass(frozen=True, slots=True)
class Known:
    """The photos of a snapshot, as Arrow tables: about 40 bytes a photo."""

    faces: pa.Table
    """source, source_bytes."""
    rejects: pa.Table
    """source, source_bytes, source_sha256, reason; a photo's last answer."""

    @classmethod
    def nothing(cls) -> Known:
        """Return what an empty root knows."""
        faces = FACE_SCHEMA.empty_table().select(_FACE_COLUMNS)
        return cls(faces, REJECT_SCHEMA.empty_table().select(_REJECT_COLUMNS))

    def plus(self, root: Path, summaries: Sequence[ShardSummary]) -> Known:
        """Return what is known with further shards, in the order of publication.

        Raises:
            CorruptShard: a shard or its rejects cannot be read.
        """
        faces, rejects = [self.faces], [self.rejects]
        for summary in summaries:
            if summary.rows:
                path = root / SHARDS / f"{summary.shard}.parquet"
                faces.append(_read(path, _FACE_COLUMNS))
            if summary.rejects:
                path = root / REJECTS / f"{summary.shard}.parquet"
                rejects.append(_read(path, _REJECT_COLUMNS))
        known_faces = pa.concat_tables(faces).combine_chunks()
        return Known(known_faces, _last_answers(pa.concat_tables(rejects), known_faces["source"]))


@dataclass(frozen=True, slots=True)
class News:
    """What is new in a listing."""

    photos: pa.Table
    """Photos to look at: the listing's columns and `retried_after`."""
    retried: dict[str, int]
    """Rejected photos whose bytes changed since, by the old reason; they are among `photos`."""
    changed: int
    """Photos whose file has another size than the one that gave their face; the face stays."""
    gone: int
    """Photos with a face that the source lacks; the face stays."""
    unwanted: int
    """Photos with a face that the source has and the listing leaves out; the face stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What a folder's watcher knows of the photos of a listing; (N,) bool each."""

    settled: BoolArray
    """They stood still; the others are no news yet."""
    fresh: BoolArray
    """They stand still for the first time: only of these a rejected one is read again."""


def find_news(
    photos: pa.Table,
    known: Known,
    snapshot: int,
    digest: Callable[[Photo], str | None],
    *,
    everything: pa.Table | None = None,
    watched: Watched | None = None,
) -> News:
    """Compare a listing with what is known.

    Args:
        photos: a listing table.
        known: what the current snapshot looked at.
        snapshot: its number, 0 before the first.
        digest: hex SHA-256 of a photo's bytes, None where it cannot be read; called for those
            that were rejected before.
        everything: all photos of the source, where `photos` are only those that are wanted.
        watched: None where nobody watches: all photos stand still.
    """
    all_rows = np.ones(photos.num_rows, bool)
    watched = watched or Watched(settled=all_rows, fresh=all_rows)
    is_settled = watched.settled
    in_faces = pc.index_in(photos["source"], value_set=_whole(known.faces["source"]))
    in_rejects = pc.index_in(photos["source"], value_set=_whole(known.rejects["source"]))
    is_face, is_reject = _mask(pc.is_valid(in_faces)), _mask(pc.is_valid(in_rejects))
    seen_bytes = known.faces["source_bytes"].take(in_faces.filter(pa.array(is_face & is_settled)))
    found_bytes = photos["size_bytes"].filter(pa.array(is_face & is_settled))
    changed = np.count_nonzero(_numbers(seen_bytes) != _numbers(found_bytes))
    again = np.zeros(len(is_face), bool)
    reasons: list[str] = []
    rows = np.flatnonzero(is_reject & watched.fresh)
    # An archive is read forwards.
    rows = rows[np.argsort(photos["offset_bytes"].to_numpy()[rows], kind="stable")]
    before = known.rejects.take(in_rejects.take(pa.array(rows))).to_pylist()
    for row, photo, old in zip(rows, photos_of(photos.take(pa.array(rows))), before, strict=True):
        is_same_size = photo.size_bytes == old["source_bytes"]
        if not is_same_size or digest(photo) != old["source_sha256"]:
            again[row] = True
            reasons.append(old["reason"])
    gone = _num_absent(known.faces, photos if everything is None else everything)
    is_new = again | (is_settled & ~(is_face | is_reject))
    retried_after = pa.array(np.full(len(again), snapshot, np.int32), mask=~again)
    new = photos.append_column("retried_after", retried_after).filter(pa.array(is_new))
    return News(
        new.combine_chunks(),
        {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        int(changed),
        gone,
        _num_absent(known.faces, photos) - gone,
    )


def _num_absent(faces: pa.Table, photos: pa.Table) -> int:
    is_there = pc.is_in(faces["source"], value_set=_whole(photos["source"]))
    return int(np.count_nonzero(~_mask(is_there)))


def _read(path: Path, columns: list[str]) -> pa.Table:
    advice = "restore it, or ingest into a new folder"
    if not path.is_file():
        raise CorruptShard(f"{path} is published and is gone; {advice}")
    with reading_parquet(path, advice, error_class=CorruptShard):
        return pq.read_table(path, columns=columns)


def _last_answers(rejects: pa.Table, faces: pa.ChunkedArray) -> pa.Table:
    """Keep each source's last reject, and none of a source that gave a face."""
    rejects = rejects.filter(pc.invert(pc.is_in(rejects["source"], value_set=_whole(faces))))
    rows = rejects.append_column("row", pa.array(np.arange(rejects.num_rows)))
    last = rows.group_by("source").aggregate([("row", "max")])["row_max"]
    return rejects.take(last.take(pc.sort_indices(last))).combine_chunks()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _mask(column: pa.ChunkedArray) -> BoolArray:
    return np.asarray(column.to_numpy(), bool)


def _numbers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(column.to_numpy(), np.int64)
