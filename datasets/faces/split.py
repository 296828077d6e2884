"""Which identities are trained on, tuned on and held out.

Each identity is placed by a hash of its own name and the seed, so that identities that arrive
later never move the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from facequarry.datasets.disk.errors import BadInput

Part = Literal["train", "tuning", "held_out"]


class HasIdentities(Protocol):
    """What a split needs of a face store."""

    @property
    def identities(self) -> Sequence[str]:
        """Identity names by identity_index."""
        ...

    @property
    def identity_index(self) -> npt.NDArray[np.int32]:
        """(N,) int32, the identity of each face."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Shares of identities; what train and tuning leave is held out."""

    train: float = 0.7
    """Share of identities that are trained on, 0 to 1."""
    tuning: float = 0.1
    """Share of identities for choosing settings, 0 to 1."""
    seed: int = 0
    """Another seed is another split."""

    def __post_init__(self) -> None:
        if not (self.train > 0 and self.tuning >= 0 and self.train + self.tuning < 1):
            raise BadInput(
                f"split.train is {self.train} and split.tuning is {self.tuning}: the first must be "
                "above 0 and together they must stay below 1, so that identities are held out"
            )

    def of(self, identity: str) -> Part:
        """Return the part that an identity belongs to."""
        digest = hashlib.blake2b(f"{self.seed}:{identity}".encode(), digest_size=8).digest()
        position = int.from_bytes(digest, "big") / 2**64
        if position < self.train:
            return "train"
        return "tuning" if position < self.train + self.tuning else "held_out"

    def faces(self, store: HasIdentities, part: Part) -> npt.NDArray[np.int64]:
        """Return the face_index of every face of `part`, ascending int64.

        Raises:
            BadInput: the part has no face.
        """
        chosen = np.array([self.of(identity) == part for identity in store.identities], dtype=bool)
        face_indices = np.flatnonzero(chosen[store.identity_index])
        if not len(face_indices):
            raise BadInput(
                f"none of the {len(store.identities)} identities falls into the {part} part; "
                "ingest more identities or change the split's shares"
            )
        return face_indices
