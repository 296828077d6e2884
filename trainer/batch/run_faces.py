"""A run's faces as one process sees them: a snapshot, and the newer ones that mining names.

Snapshots only add: a face_index means the same face in every later one, so a newer store serves
everything that an older one did. `FacesAt` says where the faces are and pickles; `RunFaces` is the
open store, exchanged for that of a newer snapshot when a generation asks for it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.snapshots import Snapshot, newest_snapshot_number
from facequarry.datasets.faces.store import FaceStore


@dataclass(frozen=True, kw_only=True, slots=True)
class FacesAt:
    """Where a process finds the faces.

    Attributes:
        root: the faces folder that ingest publishes into.
        cache: this node's memory-mapped cache, filled from the shards on first use.
        snapshot: the one that the run started with.
    """

    root: Path
    cache: Path
    snapshot: int

    def open(self, snapshot: int | None = None) -> FaceStore:
        """Open a snapshot, by default the run's first, filling the node's cache where it lacks."""
        number = self.snapshot if snapshot is None else snapshot
        return FaceStore.open(self.root, self.cache, snapshot=number)


class RunFaces:
    """The open store of a run's faces; it only ever moves on to newer snapshots.

    Safe to use from several threads.

    Args:
        at: where the faces are.
        store: the run's first snapshot, where it is open already.
    """

    def __init__(self, at: FacesAt, store: FaceStore | None = None) -> None:
        self._at = at
        self._lock = threading.Lock()
        self._store = at.open() if store is None else store
        self.first: Snapshot = self._store.manifest
        """The snapshot that the run started with."""

    @property
    def store(self) -> FaceStore:
        """The store of the newest snapshot that was reached."""
        return self._store

    @property
    def crop_px(self) -> int:
        """Height and width of every face, px; the same in every snapshot."""
        return self.first.crop_px

    def reach(self, snapshot: int) -> FaceStore:
        """Return a store that holds the faces of `snapshot`, opening it if it is a newer one.

        Raises:
            NotFound: no such snapshot.
            BadInput: it does not extend the one that is open.
            CorruptShard, LockHeld: as `FaceStore.open`.
        """
        with self._lock:
            if snapshot > self._store.manifest.number:
                store = self._at.open(snapshot)
                check_extends(self._store.manifest, store.manifest)
                self._store = store
            return self._store

    def reach_newest(self, *, at_least: int) -> FaceStore:
        """Return the store of the newest published snapshot, `at_least` or higher.

        Raises:
            NotFound: the newest published snapshot is older than `at_least`.
            BadInput, CorruptShard, LockHeld: as `reach`.
        """
        return self.reach(max(newest_snapshot_number(self._at.root), at_least))


def check_extends(earlier: Snapshot, later: Snapshot) -> None:
    """Check that a face_index of one snapshot means the same face in a later one.

    Raises:
        BadInput: it does not, or the crops have another size.
    """
    if later.crop_px != earlier.crop_px:
        raise BadInput(
            f"snapshot {later.number} has crops of {later.crop_px} px, snapshot {earlier.number} "
            f"of the run has {earlier.crop_px} px; ingest into another folder for a new run"
        )
    if _shard_bytes(later)[: len(earlier.shards)] != _shard_bytes(earlier):
        raise BadInput(
            f"snapshot {later.number} does not begin with the faces of snapshot {earlier.number}, "
            "which the run uses; name their folder with --faces, or start a new run with --name"
        )


def _shard_bytes(snapshot: Snapshot) -> list[tuple[int, str]]:
    return [(shard.first_face_index, shard.summary.sha256) for shard in snapshot.shards]
