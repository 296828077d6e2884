"""From a lease to one rank's batch: its distinct faces and the triplets as indices into them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import Generation, Lease, load_generation
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.augment import generation_seed
from facequarry.trainer.batch.run_faces import RunFaces

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one rank trains on in one step.

    Attributes:
        step: steps completed before this batch.
        generation: generation of the lease's main rows; None for random triplets.
        face_indices: (F,) int64, the distinct faces, ascending.
        images: (F, H, W, 3) uint8 RGB crops of those faces.
        identities: (F,) int32, the identity_index of each face.
        triplets: (T, 3) int64 positions in `face_indices`: anchor, positive, negative. None where
            the step looks for its triplets among the faces.
        staleness_steps: step minus mined_at_step of the oldest row; None for random triplets.
        repeats: rows of the whole lease that its generation had served before.
        augmentation_seed: of the changes under which `generation` was mined; None where its faces
            were mined as they are, or there is none.
    """

    step: int
    generation: int | None
    face_indices: IntArray
    images: npt.NDArray[np.uint8]
    identities: npt.NDArray[np.int32]
    triplets: IntArray | None
    staleness_steps: int | None
    repeats: int
    augmentation_seed: tuple[int, int] | None = None


class RandomTriplets:
    """Random triplets of a step, the same for every rank: a pure function of (seed, step).

    Args:
        face_indices: (M,) int64 faces to draw from.
        identity_index: (M,) integers, the identity of each.
        seed: the run's seed.

    Raises:
        BadInput: fewer than two identities, or none with two faces.
    """

    def __init__(
        self, face_indices: IntArray, identity_index: npt.NDArray[np.integer], *, seed: int
    ) -> None:
        order = np.argsort(identity_index, kind="stable")
        self._faces = face_indices[order]
        _, first, counts = np.unique(identity_index[order], return_index=True, return_counts=True)
        self._first, self._counts, self._seed = first, counts, seed
        # Anchors are drawn per face, so that an identity weighs as much as it has faces.
        self._anchors = np.repeat(np.where(counts >= 2, np.arange(len(counts)), -1), counts)
        self._anchors = np.flatnonzero(self._anchors >= 0)
        if len(counts) < 2:
            raise BadInput("random triplets need two identities or more among the training faces")
        if not len(self._anchors):
            raise BadInput("no training identity has two faces, so there is no positive to draw")

    def rows(self, step: int, count: int) -> IntArray:
        """Return (count, 3) int64 face_index triples of `step`."""
        rng = np.random.default_rng((self._seed, step))
        anchor = rng.choice(self._anchors, size=count)
        identity = np.searchsorted(self._first, anchor, side="right") - 1
        first, num = self._first[identity], self._counts[identity]
        # Draw among the identity's other faces, and among the faces outside the identity.
        positive = first + rng.integers(0, num - 1)
        positive += positive >= anchor
        negative = rng.integers(0, len(self._faces) - num)
        negative = np.where(negative >= first, negative + num, negative)
        rows: IntArray = self._faces[np.stack([anchor, positive, negative], axis=1)]
        return rows


class RowReader:
    """Reads the rows a lease names, keeping the two generations that a step can touch.

    Before the rows of a generation are read, `faces` holds the snapshot that it was mined from.
    """

    def __init__(self, run: RunDir, random: RandomTriplets, faces: RunFaces) -> None:
        self._run = run
        self._random = random
        self.faces = faces
        self._generations: dict[int, Generation] = {}

    def read(self, lease: Lease, rank: int, world_size: int) -> tuple[IntArray, int | None]:
        """Return this rank's (T, 3) face_index rows, and the oldest mined_at_step of the lease.

        The second is over all ranks' rows: carried rows come last, so they lie on the last ranks.
        """
        parts: list[IntArray] = []
        for r in lease.part(rank, world_size):
            if r.generation is None:
                parts.append(self._random.rows(lease.step, lease.num_rows)[r.start : r.stop])
            else:
                generation = self._generation(r.generation, r.digest)
                rows = slice(r.start, r.stop)
                columns = (generation.anchors, generation.positives, generation.negatives)
                parts.append(np.stack([column[rows] for column in columns], axis=1))
        mined = [
            self._generation(r.generation, r.digest).mined_at_step
            for r in lease.ranges
            if r.generation is not None
        ]
        return np.concatenate(parts), min(mined, default=None)

    def augmentation_seed(self, lease: Lease) -> tuple[int, int] | None:
        """Return the seed under which the lease's main rows were changed and mined, if any.

        Carried rows share it: a face is embedded once, so they lose what they were mined under.
        """
        if lease.generation is None:
            return None
        # With all rows carried no range names the main generation.
        digests = (r.digest for r in lease.ranges if r.generation == lease.generation)
        generation = self._generation(lease.generation, next(digests, None))
        if generation.manifest.get("augmentation") is None:
            return None
        return generation_seed(generation.manifest["plan"]["seed"])

    def _generation(self, number: int, digest: str | None) -> Generation:
        if number not in self._generations:
            while len(self._generations) >= 2:
                del self._generations[min(self._generations)]
            generation = load_generation(self._run.generation(number), digest=digest)
            self._reach_faces(generation)
            self._generations[number] = generation
        return self._generations[number]

    def _reach_faces(self, generation: Generation) -> None:
        try:
            store = self.faces.reach(generation.snapshot)
        except FileNotFoundError as error:
            raise NotFound(
                f"generation {generation.number} was mined from snapshot {generation.snapshot} of "
                f"the faces, which is not there: {error}"
            ) from error
        columns = (generation.anchors, generation.positives, generation.negatives)
        highest = max(int(column.max(initial=-1)) for column in columns)
        if highest >= store.num_faces:
            raise BadInput(
                f"generation {generation.number} names face {highest}, snapshot "
                f"{store.manifest.number} ends at {store.num_faces - 1}; name the faces that it "
                "was mined from with --faces"
            )


def assemble(lease: Lease, reader: RowReader, *, rank: int, world_size: int) -> Batch:
    """Read one rank's rows of a lease and decode each distinct face once."""
    rows, mined_at_step = reader.read(lease, rank, world_size)
    face_indices, positions = np.unique(rows, return_inverse=True)
    store = reader.faces.store
    return Batch(
        step=lease.step,
        generation=lease.generation,
        face_indices=face_indices,
        images=store.decode(face_indices),
        identities=store.identity_index[face_indices],
        triplets=positions.reshape(rows.shape),
        staleness_steps=None if mined_at_step is None else lease.step - mined_at_step,
        repeats=lease.repeats,
        augmentation_seed=reader.augmentation_seed(lease),
    )


def assemble_faces(lease: Lease, face_indices: IntArray, store: FaceStore) -> Batch:
    """Decode the faces of a step that looks for its triplets itself; the lease names no rows."""
    return Batch(
        step=lease.step,
        generation=None,
        face_indices=face_indices,
        images=store.decode(face_indices),
        identities=store.identity_index[face_indices],
        triplets=None,
        staleness_steps=None,
        repeats=0,
    )
