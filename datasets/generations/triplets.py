"""A generation on disk, and the lease that names a step's rows.

The miner publishes generations, the queue answers with leases, the trainer reads the rows that a
lease names. Both sides speak through this module and know nothing of each other.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from facequarry.datasets.disk.errors import BadInput, Damaged
from facequarry.datasets.disk.publish import MANIFEST, read_manifest, sha256_file
from facequarry.datasets.runs.run_dir import RunDir

TRIPLETS = pa.schema(
    [
        ("anchor", pa.int64()),
        ("positive", pa.int64()),
        ("negative", pa.int64()),
        ("d2_ap", pa.float32()),
        ("d2_an", pa.float32()),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
    ]
)
SUSPECTS_FILE = "suspects.parquet"
_MANIFEST_COUNTS = ("generation", "mined_at_step", "rows", "snapshot")

IntArray = npt.NDArray[np.int64]

logger = logging.getLogger(__name__)


class CorruptGeneration(Damaged):
    """A generation's parts are not what its manifest says, or the manifest says too little."""


class GenerationChanged(BadInput):
    """Rows were granted of a generation that is gone by now, or that holds other rows."""


@dataclass(frozen=True, slots=True)
class RowRange:
    """Rows [start, stop) of a generation, in file order.

    `generation` is None for random triplets, which come from (seed, step) and have no file.
    `digest` says which bytes are meant (`generation_digest`); None takes what is published.
    """

    generation: int | None
    start: int
    stop: int
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The rows of one step, the same for whoever asks and whenever.

    Attributes:
        step: the optimizer step that consumes the rows (steps completed before it).
        generation: the generation of the main rows; None for random triplets.
        ranges: the rows in order; their lengths add up to the global batch.
        repeats: how many of the rows this generation had served before.
    """

    step: int
    generation: int | None
    ranges: tuple[RowRange, ...]
    repeats: int = 0

    @property
    def num_rows(self) -> int:
        """Length of the global batch."""
        return sum(r.stop - r.start for r in self.ranges)

    def part(self, rank: int, world_size: int) -> tuple[RowRange, ...]:
        """Return the rank-th contiguous part of the rows.

        Raises:
            BadInput: the batch does not divide by the number of ranks.
        """
        total = self.num_rows
        if total % world_size:
            raise BadInput(f"a batch of {total} triplets does not divide over {world_size} ranks")
        first, last = rank * total // world_size, (rank + 1) * total // world_size
        part: list[RowRange] = []
        offset = 0
        for r in self.ranges:
            low, high = max(first - offset, 0), min(last - offset, r.stop - r.start)
            if low < high:
                part.append(replace(r, start=r.start + low, stop=r.start + high))
            offset += r.stop - r.start
        return tuple(part)


class TripletSource(Protocol):
    """Where a trainer gets its leases: the queue's client, or a fake in a test."""

    def lease(self, step: int) -> Lease:
        """Return the rows of `step`, waiting for them if they do not exist yet.

        Raises:
            TimedOut: nothing came within the source's time; the message names what was
                waited for.
        """
        ...

    @property
    def wants_checkpoint(self) -> bool:
        """Say whether the rows that are being waited for take a checkpoint newer than there is."""
        ...


@dataclass(frozen=True, slots=True)
class Generation:
    """A published generation in memory.

    Attributes:
        number: its number in the run, from 0.
        mined_at_step: step of the checkpoint whose embeddings were mined.
        snapshot: the snapshot of faces that was mined; its rows are face_index values of it.
        anchors, positives, negatives: (T,) int64 face_index, in lease order.
        manifest: what `generations.generation_files` wrote.
    """

    number: int
    mined_at_step: int
    snapshot: int
    anchors: IntArray
    positives: IntArray
    negatives: IntArray
    manifest: Mapping[str, Any]


def read_generation_manifest(folder: Path, *, back_to: int | None = None) -> dict[str, Any]:
    """Read a published generation's manifest.

    Args:
        folder: `RunDir.generation(number)`.
        back_to: step of a checkpoint from which training can do without it, if one is known; the
            sentence of an error names it.

    Raises:
        NotFound: nothing is published there.
        CorruptGeneration: the manifest is none of a generation.
        NewerSchema: a newer FaceQuarry wrote it.
    """
    try:
        manifest = read_manifest(folder / MANIFEST)
    except Damaged as error:
        raise CorruptGeneration(
            f"{folder / MANIFEST} is damaged, it is no JSON object; {_repair(back_to)}"
        ) from error
    wrong = [
        name
        for name in _MANIFEST_COUNTS
        if type(value := manifest.get(name)) is not int or value < 0
    ]
    parts = manifest.get("parts")
    if not isinstance(parts, list) or not all(_is_part(part) for part in parts):
        wrong.append("parts")
    elif not wrong and sum(part["rows"] for part in parts) != manifest["rows"]:
        wrong.append("rows that its parts add up to")
    if wrong:
        raise CorruptGeneration(
            f"{folder / MANIFEST} is no manifest of a generation, it lacks {', '.join(wrong)}; "
            f"{_repair(back_to)}"
        )
    return manifest


def generation_digest(manifest: Mapping[str, Any]) -> str:
    """Return what tells a generation's rows from any others: a hex SHA-256 over its parts.

    The timing is no part of it: a replay has the same digest.
    """
    parts = "".join(f"{part['rows']}:{part['sha256']}\n" for part in manifest["parts"])
    return hashlib.sha256(f"{manifest['rows']}\n{parts}".encode()).hexdigest()


def check_generation(
    folder: Path,
    digest: str | None,
    *,
    mined_at_step: int | None = None,
    back_to: int | None = None,
) -> dict[str, Any]:
    """Return the manifest of a generation that rows were granted of.

    Args:
        folder: `RunDir.generation(number)`.
        digest: of the bytes that were granted; None where the journal does not say.
        mined_at_step: of what was granted; None where the caller does not know.
        back_to: as for `read_generation_manifest`.

    Raises:
        GenerationChanged: it is gone, or holds other rows.
        CorruptGeneration: its manifest is none, or another generation's.
    """
    try:
        manifest = read_generation_manifest(folder, back_to=back_to)
    except FileNotFoundError as error:
        raise GenerationChanged(
            f"{folder} is gone, with the manifest that says how to mine it; {_repair(back_to)}"
        ) from error
    if RunDir(folder.parent.parent).generation(manifest["generation"]) != folder:
        raise CorruptGeneration(
            f"{folder / MANIFEST} says generation {manifest['generation']}; {_repair(back_to)}"
        )
    if digest is not None and generation_digest(manifest) != digest:
        raise GenerationChanged(
            f"{folder} holds other rows than those that were granted; {_repair(back_to)}"
        )
    if mined_at_step not in (None, manifest["mined_at_step"]):
        raise CorruptGeneration(
            f"{folder / MANIFEST} says mined_at_step {manifest['mined_at_step']}, and its rows "
            f"were granted as mined at step {mined_at_step}; {_repair(back_to)}"
        )
    return manifest


def mined_snapshot(run: RunDir) -> int | None:
    """Return the snapshot of faces that a run's newest generation was mined from, if any.

    A generation whose manifest is damaged is passed over.
    """
    for number in reversed(run.generation_numbers()):
        try:
            return int(read_generation_manifest(run.generation(number))["snapshot"])
        except CorruptGeneration as error:
            logger.warning("generation %d is passed over: %s", number, error)
    return None


def read_table(folder: Path, manifest: Mapping[str, Any] | None = None) -> pa.Table:
    """Read all rows of a published generation, in lease order.

    Args:
        folder: `RunDir.generation(number)`.
        manifest: where the caller has read it: then these are the rows that it speaks of.

    Raises:
        CorruptGeneration: a part is missing or its bytes changed.
    """
    if manifest is None:
        manifest = read_generation_manifest(folder)
    tables = []
    for part in manifest["parts"]:
        path = folder / part["file"]
        if not path.is_file() or sha256_file(path) != part["sha256"]:
            raise CorruptGeneration(f"{path} is missing or its bytes changed; {_mend(folder)}")
        tables.append(pq.read_table(path))
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def load_generation(folder: Path, *, digest: str | None = None) -> Generation:
    """Load a published generation's rows for training.

    Args:
        folder: `RunDir.generation(number)`.
        digest: of the rows that a lease means; None takes what is published.

    Raises:
        GenerationChanged: it is gone, or holds other rows than the lease means.
        CorruptGeneration: a part is missing or its bytes changed.
    """
    manifest = check_generation(folder, digest)
    table = read_table(folder, manifest)
    return Generation(
        number=manifest["generation"],
        mined_at_step=manifest["mined_at_step"],
        snapshot=manifest["snapshot"],
        anchors=table["anchor"].to_numpy(),
        positives=table["positive"].to_numpy(),
        negatives=table["negative"].to_numpy(),
        manifest=manifest,
    )


def _is_part(part: object) -> bool:
    return (
        isinstance(part, dict)
        and isinstance(part.get("file"), str)
        and isinstance(part.get("sha256"), str)
        and type(part.get("rows")) is int
    )


def _repair(back_to: int | None) -> str:
    """Say how to do without a generation whose manifest cannot be trusted."""
    step = "STEP" if back_to is None else str(back_to)
    return (
        "restore it, or go back to a checkpoint before its rows (facequarry run --resume "
        f"--resume-from {step})"
    )


def _mend(folder: Path) -> str:
    """Say how to get parts back that a sound manifest names, or how to do without them."""
    run, number = folder.parent.parent, folder.name.removeprefix("gen=").lstrip("0") or "0"
    return (
        "mine it again where its checkpoint is kept (facequarry mine "
        f"--run {run} --replay gen={number}), or {_repair(None)}"
    )
