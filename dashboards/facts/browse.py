"""Mined triplets with their faces: the pages of the triplet browser.

Crops are read from the Parquet shards themselves, a row group at a time: slower than the trainer's
memory-mapped cache, but it writes nothing and needs no disk on the machine that shows the page.

    generation = read_generation(Path("runs/demo-1"), 3)
    page = read_page(generation, faces_root, order="spread", index=0)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.shards import SHARDS
from facequarry.datasets.faces.snapshots import Snapshot, read_snapshot
from facequarry.datasets.generations.triplets import read_generation_manifest, read_table
from facequarry.datasets.runs.run_dir import RunDir

PAGE_ROWS = 8
ORDERS = {
    "spread": "spread over the generation",
    "leased": "as leased",
    "nearest_negative": "nearest negative first",
    "farthest_positive": "farthest positive first",
}
"""How triplets are ordered for browsing, by what the page calls it."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class TripletBook:
    """A published generation: its rows and what its manifest says of it."""

    number: int
    mined_at_step: int
    snapshot: int | None
    margin: float | None
    stats: dict[str, Any]
    """`MiningStats.to_dict()`."""
    num_suspects: int
    table: pa.Table

    @property
    def d2_edges(self) -> npt.NDArray[np.float64]:
        """(M + 1,) edges of the bins of `d2_ap` and `nearest_d2_an`, squared L2."""
        return np.linspace(0, 4, len(self.d2_ap) + 1)

    @property
    def d2_ap(self) -> Ints:
        """(M,) pairs by d2 of anchor and positive."""
        return np.array(self.stats.get("d2_ap_histogram", []), np.int64)

    @property
    def nearest_d2_an(self) -> Ints:
        """(M,) anchors by d2 to their nearest negative."""
        return np.array(self.stats.get("nearest_d2_an_histogram", []), np.int64)


@dataclass(frozen=True, slots=True)
class Face:
    """A face as it is shown."""

    face_index: int
    identity: str
    source: str
    """Photo it was cut from, relative to the ingested folder."""
    jpeg: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Triplet:
    """A mined triplet with its faces."""

    row: int
    """Row in the generation, which is its place in lease order."""
    anchor: Face
    positive: Face
    negative: Face
    d2_ap: float
    d2_an: float
    kind: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of triplets."""

    index: int
    num_pages: int
    triplets: tuple[Triplet, ...]


def read_generation(root: Path, number: int) -> TripletBook:
    """Read a generation of the run at `root`.

    Raises:
        NotFound: it is not published, or was removed.
        CorruptGeneration: its bytes are not those that were published.
    """
    folder = RunDir(root).generation(number)
    manifest = read_generation_manifest(folder)
    return TripletBook(
        number=number,
        mined_at_step=manifest["mined_at_step"],
        snapshot=manifest.get("snapshot"),
        margin=manifest.get("config", {}).get("margin"),
        stats=manifest.get("stats", {}),
        num_suspects=manifest.get("suspects", 0),
        table=read_table(folder),
    )


def read_page(generation: TripletBook, faces: Path, *, order: str, index: int) -> Page:
    """Read one page of triplets.

    Args:
        generation: what to browse.
        faces: the faces root.
        order: a key of `ORDERS`.
        index: the page, from 0; one beyond the last is the last.

    Raises:
        NotFound: the faces are gone.
    """
    rows = _ordered(generation.table, order)
    num_pages = -(-len(rows) // PAGE_ROWS)
    if not num_pages:
        return Page(0, 0, ())
    index = min(max(index, 0), num_pages - 1)
    if order == "spread":
        # Rows that follow each other share faces: a page takes every num_pages-th one.
        shown = rows[index::num_pages]
    else:
        shown = rows[index * PAGE_ROWS : (index + 1) * PAGE_ROWS]
    columns = generation.table.take(shown).to_pydict()
    roles = ("anchor", "positive", "negative")
    crops = read_faces(
        faces, generation.snapshot, {face for role in roles for face in columns[role]}
    )
    triplets = tuple(
        Triplet(
            row=int(row),
            d2_ap=columns["d2_ap"][place],
            d2_an=columns["d2_an"][place],
            kind=columns["kind"][place],
            **{role: crops[columns[role][place]] for role in roles},
        )
        for place, row in enumerate(shown)
    )
    return Page(index, num_pages, triplets)


def read_faces(root: Path, snapshot: int | None, face_indices: Iterable[int]) -> dict[int, Face]:
    """Read faces by face_index from the shards of a snapshot; None is the current one.

    Raises:
        NotFound: the snapshot or a shard is gone.
        IndexError: a face_index is out of range.
    """
    found = read_snapshot(root, snapshot)
    faces: dict[int, Face] = {}
    for shard, wanted in _by_shard(found, sorted(face_indices)).items():
        first = found.shards[shard].first_face_index
        path = root / SHARDS / f"{found.shards[shard].summary.shard}.parquet"
        for row, values in _read_rows(path, [face - first for face in wanted]).items():
            face = first + row
            faces[face] = Face(face, values["identity"], values["source"], values["image"])
    return faces


def _ordered(table: pa.Table, order: str) -> Ints:
    match order:
        case "spread" | "leased":
            return np.arange(table.num_rows)
        case "nearest_negative":
            return np.argsort(table["d2_an"].to_numpy(), kind="stable")
        case "farthest_positive":
            return np.argsort(-table["d2_ap"].to_numpy(), kind="stable")
    raise BadInput(f"order is {order!r}, expected one of {', '.join(ORDERS)}")


def _by_shard(snapshot: Snapshot, face_indices: list[int]) -> dict[int, list[int]]:
    starts = [shard.first_face_index for shard in snapshot.shards]
    by_shard: dict[int, list[int]] = {}
    for face in face_indices:
        if not 0 <= face < snapshot.num_faces:
            raise IndexError(f"face_index {face} is out of range 0..{snapshot.num_faces - 1}")
        # From the right: a shard without rows starts where the next one does.
        by_shard.setdefault(int(np.searchsorted(starts, face, side="right")) - 1, []).append(face)
    return by_shard


def _read_rows(path: Path, rows: list[int]) -> dict[int, dict[str, Any]]:
    """Return the named rows of a shard, reading only the row groups that hold them."""
    values: dict[int, dict[str, Any]] = {}
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum(sizes)
        groups = np.searchsorted(ends, rows, side="right")
        for group in np.unique(groups).tolist():
            table = file.read_row_group(group, columns=["identity", "source", "image"])
            inside = [row for row, its in zip(rows, groups, strict=True) if its == group]
            start = int(ends[group]) - sizes[group]
            for row, value in zip(
                inside, table.take([row - start for row in inside]).to_pylist(), strict=True
            ):
                values[row] = value
    return values
