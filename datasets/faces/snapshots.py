"""Snapshots of a faces root: which shards there are, in which order, and who is in them.

A snapshot is immutable and only adds to the one before: `face_index = first_face_index(shard) +
row` and every identity_index stay what they were once published.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facequarry.datasets.disk.errors import Damaged, NotFound
from facequarry.datasets.disk.parquet import reading_parquet
from facequarry.datasets.disk.publish import (
    MANIFEST,
    SCHEMA_VERSION,
    dump_json,
    numbered,
    read_manifest,
    sha256_file,
    staged_folder,
)
from facequarry.datasets.faces.schema import IDENTITY_SCHEMA
from facequarry.datasets.faces.shards import SHARDS, ShardSummary

SNAPSHOTS = "snapshots"
IDENTITIES = "identities.parquet"

_RESTORE = "restore the file, or ingest into a new folder"


@dataclass(frozen=True, slots=True)
class SnapshotShard:
    """One shard as a snapshot names it."""

    first_face_index: int
    """face_index of its first row."""
    summary: ShardSummary


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One published snapshot."""

    number: int
    options: dict[str, Any]
    """Detector, its options, crop, margin, alignment: `FaceOptions.to_json()`."""
    shards: tuple[SnapshotShard, ...]
    """In task order, which is the order of face_index."""
    num_identities: int
    identities_sha256: str
    retried: dict[str, int] = field(default_factory=dict)
    """Rejects that a later shard looked at again, by their reason: they do not count."""

    @property
    def num_faces(self) -> int:
        """Rows over all shards."""
        return sum(shard.summary.rows for shard in self.shards)

    @property
    def rejects(self) -> dict[str, int]:
        """Rejected photos by reason."""
        total = Counter(count_rejects(shard.summary for shard in self.shards))
        total.subtract(self.retried)
        return {reason: count for reason, count in total.items() if count}

    @property
    def num_photos(self) -> int:
        """Photos looked at: faces and rejects."""
        return self.num_faces + sum(self.rejects.values())

    @property
    def crop_px(self) -> int:
        """Side of every crop, px."""
        return int(self.options["crop_px"])


def snapshot_folder(root: Path, number: int) -> Path:
    """Folder of snapshot `number`."""
    return root / SNAPSHOTS / f"snapshot={number:06d}"


def snapshot_numbers(root: Path) -> list[int]:
    """Numbers of the published snapshots, ascending; the last one is current."""
    return numbered(root / SNAPSHOTS, "snapshot=")


def newest_snapshot_number(root: Path) -> int:
    """Return the number of the current snapshot.

    Raises:
        NotFound: there is none.
    """
    numbers = snapshot_numbers(root)
    if not numbers:
        raise NotFound(f"no snapshot of faces under {root}; try: facequarry ingest")
    return numbers[-1]


def read_snapshot(root: Path, number: int | None = None) -> Snapshot:
    """Read a published snapshot, by default the current one.

    Raises:
        NotFound: there is none, or not this one.
        NewerSchema: a newer FaceQuarry published it.
        Damaged: its manifest is not one.
    """
    newest = newest_snapshot_number(root)
    number = newest if number is None else number
    numbers = snapshot_numbers(root)
    if number not in numbers:
        raise NotFound(f"no snapshot {number} under {root}, published: {numbers}")
    path = snapshot_folder(root, number) / MANIFEST
    value = read_manifest(path)
    try:
        shards = tuple(
            SnapshotShard(
                entry["first_face_index"],
                ShardSummary(**{name: entry[name] for name in ShardSummary.__slots__}),
            )
            for entry in value["shards"]
        )
        return Snapshot(
            number,
            dict(value["options"]),
            shards,
            int(value["num_identities"]),
            str(value["identities_sha256"]),
            dict(value["retried"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damaged(f"{path} is no manifest of a snapshot: {error!r}; {_RESTORE}") from error


def read_identities(root: Path, number: int) -> list[str]:
    """Return the identities of a snapshot by identity_index.

    Raises:
        Damaged: the table is not the one that was published.
    """
    path = snapshot_folder(root, number) / IDENTITIES
    with reading_parquet(path, _RESTORE):
        table = pq.read_table(path, schema=IDENTITY_SCHEMA)
    if table["identity_index"].to_pylist() != list(range(table.num_rows)):
        raise Damaged(f"{path}: identity_index does not count from 0; {_RESTORE}")
    names: list[str] = table["identity"].to_pylist()
    return names


def publish_snapshot(
    root: Path,
    options: dict[str, Any],
    added: Sequence[ShardSummary],
    retried: Mapping[str, int] | None = None,
) -> Snapshot:
    """Publish the next snapshot: the current one and `added` shards after it, in their order.

    Call it only while holding the root's writer lock.

    Args:
        root: the faces root.
        options: `FaceOptions.to_json()`, the same for all snapshots of a root.
        added: the new shards' summaries.
        retried: photos in the new shards that the current snapshot rejected, by its reason.
    """
    numbers = snapshot_numbers(root)
    before = read_snapshot(root) if numbers else None
    shards = list(before.shards) if before else []
    first = before.num_faces if before else 0
    for summary in added:
        shards.append(SnapshotShard(first, summary))
        first += summary.rows
    number = numbers[-1] + 1 if numbers else 1
    identities = _next_identities(root, before, added)
    with staged_folder(snapshot_folder(root, number)) as folder:
        pq.write_table(identities, folder / IDENTITIES)
        snapshot = Snapshot(
            number,
            options,
            tuple(shards),
            identities.num_rows,
            sha256_file(folder / IDENTITIES),
            dict(Counter(before.retried if before else {}) + Counter(retried or {})),
        )
        (folder / MANIFEST).write_text(dump_json(_to_json(snapshot)), encoding="utf-8")
    return snapshot


def shards_digest(snapshot: Snapshot) -> str:
    """Return a hex SHA-256 over a snapshot's shards, in order."""
    return hashlib.sha256(_shard_lines(snapshot).encode()).hexdigest()


def snapshot_digest(snapshot: Snapshot) -> str:
    """Return a hex SHA-256 over a snapshot's shards, in order, and its identities."""
    text = _shard_lines(snapshot) + snapshot.identities_sha256
    return hashlib.sha256(text.encode()).hexdigest()


def count_rejects(summaries: Iterable[ShardSummary]) -> dict[str, int]:
    """Sum rejects by reason, ordered by reason."""
    total: Counter[str] = Counter()
    for summary in summaries:
        total.update(summary.rejects)
    return dict(sorted(total.items()))


def _shard_lines(snapshot: Snapshot) -> str:
    return "".join(f"{s.first_face_index}:{s.summary.sha256}\n" for s in snapshot.shards)


def _next_identities(
    root: Path, before: Snapshot | None, added: Sequence[ShardSummary]
) -> pa.Table:
    num_faces: dict[str, int] = {}
    if before is not None:
        path = snapshot_folder(root, before.number) / IDENTITIES
        with reading_parquet(path, _RESTORE):
            table = pq.read_table(path, schema=IDENTITY_SCHEMA)
        num_faces = dict(
            zip(table["identity"].to_pylist(), table["num_faces"].to_pylist(), strict=True)
        )
    new: Counter[str] = Counter()
    for summary in added:
        column = pq.read_table(root / SHARDS / f"{summary.shard}.parquet", columns=["identity"])
        for item in pc.value_counts(column["identity"]).to_pylist():
            new[item["values"]] += item["counts"]
    # A dict keeps its order: identities already numbered first, then the new ones, sorted.
    for identity in sorted(new):
        num_faces[identity] = num_faces.get(identity, 0) + new[identity]
    return pa.table(
        [list(num_faces), list(range(len(num_faces))), list(num_faces.values())],
        schema=IDENTITY_SCHEMA,
    )


def _to_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "snapshot": snapshot.number,
        "options": snapshot.options,
        "num_faces": snapshot.num_faces,
        "num_identities": snapshot.num_identities,
        "num_photos": snapshot.num_photos,
        "rejects": snapshot.rejects,
        "retried": snapshot.retried,
        "identities_sha256": snapshot.identities_sha256,
        "shards": [
            {"first_face_index": shard.first_face_index, **asdict(shard.summary)}
            for shard in snapshot.shards
        ],
    }
