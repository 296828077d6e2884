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

from datasets.photos import Photo, photos_of
from datasets.schema import FACE_SCHEMA, REJECT_SCHEMA
from datasets.shard import REJECTS, SHARDS, ShardSummary

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
            OSError, pa.ArrowInvalid: a shard or its rejects cannot be read.
        """
        faces, rejects = [self.faces], [self.rejects]
        for summary in summaries:
            if summary.rows:
                path = root / SHARDS / f"{summary.shard}.parquet"
                faces.append(pq.read_table(path, columns=_FACE_COLUMNS))
            if summary.rejects:
                path = root / REJECTS / f"{summary.shard}.parquet"
                rejects.append(pq.read_table(path, columns=_REJECT_COLUMNS))
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
    """Photos with a face that the listing lacks; the face stays."""


def find_news(
    photos: pa.Table,
    known: Known,
    snapshot: int,
    digest: Callable[[Photo], str | None],
    is_settled: BoolArray | None = None,
) -> News:
    """Compare a listing with what is known.

    Args:
        photos: a listing table.
        known: what the current snapshot looked at.
        snapshot: its number, 0 before the first.
        digest: hex SHA-256 of a photo's bytes, None where it cannot be read; called for those
            that were rejected before.
        is_settled: (N,) bool, photos that stood still; the others are no news yet. None: all.
    """
    if is_settled is None:
        is_settled = np.ones(photos.num_rows, bool)
    in_faces = pc.index_in(photos["source"], value_set=_whole(known.faces["source"]))
    in_rejects = pc.index_in(photos["source"], value_set=_whole(known.rejects["source"]))
    is_face, is_reject = _mask(pc.is_valid(in_faces)), _mask(pc.is_valid(in_rejects))
    seen_bytes = known.faces["source_bytes"].take(in_faces.filter(pa.array(is_face & is_settled)))
    found_bytes = photos["size_bytes"].filter(pa.array(is_face & is_settled))
    changed = np.count_nonzero(_numbers(seen_bytes) != _numbers(found_bytes))
    again = np.zeros(len(is_face), bool)
    reasons: list[str] = []
    rows = np.flatnonzero(is_reject & is_settled)
    before = known.rejects.take(in_rejects.take(pa.array(rows))).to_pylist()
    for row, photo, old in zip(rows, photos_of(photos.take(pa.array(rows))), before, strict=True):
        is_same_size = photo.size_bytes == old["source_bytes"]
        if not is_same_size or digest(photo) != old["source_sha256"]:
            again[row] = True
            reasons.append(old["reason"])
    is_new = again | (is_settled & ~(is_face | is_reject))
    retried_after = pa.array(np.full(len(again), snapshot, np.int32), mask=~again)
    new = photos.append_column("retried_after", retried_after).filter(pa.array(is_new))
    return News(
        new.combine_chunks(),
        {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        int(changed),
        known.faces.num_rows - int(np.count_nonzero(is_face)),
    )


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
