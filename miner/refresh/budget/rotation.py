"""Which identities each refresh embeds where it cannot embed all: a cycle that takes each once.

A cycle is an order of identities. Each refresh takes the next part of it, until none is left, and
then a new cycle begins. The order and who took which lie beside a generation's rows
(`identities.parquet`), so that a replay needs nothing else and a restarted miner goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from facequarry.datasets.disk.errors import BadInput

IDENTITIES_FILE = "identities.parquet"

_TO_COME = -1
_SCHEMA = pa.schema([("identity_index", pa.int32()), ("generation", pa.int64())])

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """A cycle, as far as it has come."""

    order: Ints
    """(P,) identity_index, each once, in the order in which they are taken."""
    generation: Ints
    """(P,) the generation that embedded it; -1 while it is to come."""

    @classmethod
    def starting(cls, order: npt.ArrayLike) -> Rotation:
        """Return a cycle of which nothing was taken yet."""
        identities = np.asarray(order, np.int64)
        return cls(identities, np.full(identities.size, _TO_COME))

    @property
    def left(self) -> Ints:
        """(L,) identities to come, in order."""
        left: Ints = self.order[self.generation == _TO_COME]
        return left

    def embedded_by(self, number: int) -> Ints:
        """Return (M,) the identities that a generation embedded."""
        embedded: Ints = self.order[self.generation == number]
        return embedded

    def over(self, identities: Ints) -> Rotation:
        """Return the cycle over these: those new since it began are first in line."""
        new = np.setdiff1d(identities, self.order)
        still = np.isin(self.order, identities)
        return Rotation(
            np.concatenate([new, self.order[still]]),
            np.concatenate([np.full(new.size, _TO_COME), self.generation[still]]),
        )

    def taken(self, count: int, number: int) -> Rotation:
        """Return the cycle after generation `number` took the next `count` identities."""
        generation = self.generation.copy()
        generation[np.flatnonzero(generation == _TO_COME)[:count]] = number
        return Rotation(self.order, generation)

    def to_bytes(self) -> bytes:
        """Return the file that holds it: Parquet, null for an identity that is to come."""
        generation = pa.array(self.generation, pa.int64(), mask=self.generation == _TO_COME)
        columns = [pa.array(self.order, pa.int32()), generation]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns, schema=_SCHEMA), sink, compression="zstd")
        return bytes(sink.getvalue())

    def to_manifest(self, number: int) -> dict[str, object]:
        """Return what the manifest of generation `number` says of it."""
        return {
            "file": IDENTITIES_FILE,
            "sha256": hashlib.sha256(self.to_bytes()).hexdigest(),
            "embedded": int(self.embedded_by(number).size),
            "left": int(self.left.size),
            "cycle": int(self.order.size),
        }


def read_rotation(folder: Path, manifest: Mapping[str, Any]) -> Rotation | None:
    """Read the cycle that a generation is part of; None where it embedded all identities.

    Args:
        folder: `RunDir.generation(number)`.
        manifest: of that generation.

    Raises:
        BadInput: its file is missing, or has other bytes than the manifest says.
    """
    named = manifest.get("plan", {}).get("identities")
    if named is None:
        return None
    path = folder / IDENTITIES_FILE
    raw = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(raw).hexdigest() != named["sha256"]:
        raise BadInput(
            f"{path} says which identities were embedded, and is missing or its bytes changed; "
            "restore that file"
        )
    table = pq.read_table(pa.BufferReader(raw))
    generation = table["generation"].fill_null(_TO_COME).to_numpy()
    return Rotation(table["identity_index"].to_numpy().astype(np.int64), generation)


def next_part(faces: Ints, rows: Ints, *, most: int, least_rows: int) -> int:
    """Return how many of the identities that are left the next refresh takes.

    What is left is cut into as few parts as `most` allows, all of about one size: so a cycle ends
    without a tiny part, and a small change of `most` changes nothing.

    Args:
        faces: (L,) of each identity that is left, in order.
        rows: (L,) triplets that each one could give.
        most: faces that a refresh may embed.
        least_rows: triplets that a part could give at least. Where two identities, or these rows,
            take more than `most` faces, they are taken all the same; and so is a rest that would
            be less than that.
    """
    upto = np.cumsum(faces)
    parts = max(1, -(-int(upto[-1]) // max(1, most)))
    # The first identity that completes the share, or the last that stays within `most`.
    even = int(np.searchsorted(upto, upto[-1] / parts)) + 1
    within = int(np.searchsorted(upto, most, side="right"))
    count = max(min(even, within), _least(rows, least_rows))
    rest = rows[count:]
    return len(faces) if _least(rest, least_rows) > rest.size else count


def _least(rows: Ints, least_rows: int) -> int:
    """Return how many identities a part needs; one more than there are where these are too few."""
    upto = np.cumsum(rows)
    return max(2, int(np.searchsorted(upto, least_rows)) + 1)
