"""Shards: the Parquet files of a faces root, and the summary that makes each of them finished.

A shard is `rejects/<shard>.parquet`, `shards/<shard>.parquet` and, written last,
`shards/<shard>.json`. It is named by the digest of what it was made from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.publish import (
    SCHEMA_VERSION,
    AlreadyPublished,
    read_manifest,
    sha256_file,
    staged_file,
    write_json,
)
from facequarry.datasets.faces.schema import FACE_SCHEMA, REJECT_SCHEMA, ROW_GROUP_ROWS

SHARDS = "shards"


REJECTS = "rejects"


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """What `shards/<shard>.json` says about a finished shard."""

    shard: str
    rows: int
    bytes: int
    sha256: str
    digest: str
    rejects: dict[str, int]

    @property
    def num_photos(self) -> int:
        """Photos looked at: faces and rejects."""
        return self.rows + sum(self.rejects.values())


def shard_name(digest: str) -> str:
    """Return the name of the shard of a task's digest."""
    return digest[:16]


def read_summary(root: Path, shard: str) -> ShardSummary | None:
    """Return the summary of a finished shard; None where it was never finished.

    Raises:
        NewerSchema: a newer FaceQuarry made it.
        BadInput: the summary is not one.
    """
    path = root / SHARDS / f"{shard}.json"
    if not path.is_file():
        return None
    value = read_manifest(path)
    try:
        return ShardSummary(**{name: value[name] for name in ShardSummary.__slots__})
    except KeyError as error:
        raise BadInput(f"{path} lacks {error}; remove the file to have it made again") from error


def write_shard(
    root: Path, digest: str, faces: list[dict[str, Any]], rejects: list[dict[str, Any]]
) -> ShardSummary:
    """Write the files of the shard of this task digest, the summary last."""
    shard = shard_name(digest)
    # Without a summary a shard is not there yet: what a killed maker left may be replaced.
    with staged_file(root / REJECTS / f"{shard}.parquet", replace=True) as path:
        pq.write_table(pa.Table.from_pylist(rejects, REJECT_SCHEMA), path)
    final = root / SHARDS / f"{shard}.parquet"
    with staged_file(final, replace=True) as path:
        _write_faces(pa.Table.from_pylist(faces, FACE_SCHEMA), path)
        num_bytes, sha256 = path.stat().st_size, sha256_file(path)
    by_reason = Counter(reject["reason"] for reject in rejects)
    summary = ShardSummary(
        shard, len(faces), num_bytes, sha256, digest, dict(sorted(by_reason.items()))
    )
    try:
        write_json(
            root / SHARDS / f"{shard}.json",
            {"schema_version": SCHEMA_VERSION, **asdict(summary)},
        )
    except AlreadyPublished:
        pass  # an actor believed dead finished the same bytes
    return summary


def _write_faces(table: pa.Table, path: Path) -> None:
    small = [name for name in FACE_SCHEMA.names if name != "image"]
    pq.write_table(
        table,
        path,
        row_group_size=ROW_GROUP_ROWS,
        # JPEG bytes gain nothing from another codec, and no reader asks for their minimum.
        compression={"image": "none"} | {_leaf(name): "snappy" for name in small},
        use_dictionary=["identity"],
        write_statistics=["identity", "source"],
    )


def _leaf(name: str) -> str:
    """Return a column's path in Parquet, where the items of a list are a column of their own."""
    is_list = pa.types.is_fixed_size_list(FACE_SCHEMA.field(name).type)
    return f"{name}.list.element" if is_list else name
