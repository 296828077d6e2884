"""The faces that `facequarry evaluate` judges a run by, and which of their people it knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.snapshots import read_snapshot
from facequarry.datasets.faces.split import Part, Split
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import RunConfig
from facequarry.jobs.state.origin import Origin, origin_of, people_of
from facequarry.jobs.state.plans import faces_of
from facequarry.trainer.evaluation.evaluate import check_made_alike
from facequarry.trainer.evaluation.face_pairs import IntArray
from facequarry.trainer.evaluation.pairs_faces import rejected_photos


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatedFaces:
    """Faces and how the run divided their people."""

    root: Path
    store: FaceStore
    name: str | None
    """Of the folder, where it was named; None for the run's faces as it started with them."""
    split: Split
    known: frozenset[str]
    """Identities that the run had faces of: only these can have been trained or tuned on."""
    origin: Origin
    """What the run's first weights had been trained on before it."""
    differences: list[str]
    """How these faces were made otherwise than those of the training, in words."""

    @classmethod
    def open(cls, config: RunConfig, run: RunDir, root: Path | None) -> EvaluatedFaces:
        """Open the run's faces, or the newest snapshot of others.

        Raises:
            NotFound: there are no faces, or the run's own are gone: nobody could say then
                who was trained on.
            AlignmentMismatch: the others are aligned in another way.
            BadInput, LockHeld: as `FaceStore.open`.
        """
        own = faces_of(config, run)
        trained = read_snapshot(own.root, own.snapshot)
        if root is None:
            store, differences = own.open(), []
        else:
            differences = check_made_alike(trained.options, read_snapshot(root).options)
            store = FaceStore.open(root, config.cluster.face_cache or root / "cache")
        return cls(
            root=root or own.root,
            store=store,
            name=None if root is None else root.resolve().name,
            split=config.split,
            known=people_of(config, run),
            origin=origin_of(config),
            differences=differences,
        )

    def part_of(self, identity: str) -> Part:
        """Return the run's part of an identity; people it had no faces of are held out.

        Whoever the run's first weights had been trained on counts as trained on.
        """
        if self.origin.trained_on(identity):
            return "train"
        return self.split.of(identity) if identity in self.known else "held_out"

    def of_part(self, part: Part) -> IntArray:
        """Return the face_index of every face of a part, ascending int64.

        Raises:
            BadInput: the part has no face.
        """
        is_in = np.array([self.part_of(name) == part for name in self.store.identities], bool)
        face_indices = np.flatnonzero(is_in[self.store.identity_index])
        if not len(face_indices):
            raise BadInput(
                f"none of the {len(is_in)} identities in {self.root} is in the {part} part of the "
                "run; name another folder with --faces, or another --part"
            )
        return face_indices

    def num_touching(self, left: IntArray, right: IntArray, part: Part) -> int:
        """Return how many pairs have a face of a part; (P,) face_index each."""
        is_in = np.array([self.part_of(name) == part for name in self.store.identities], bool)
        of_face = is_in[self.store.identity_index]
        return int((of_face[left] | of_face[right]).sum())

    def rejected(self) -> dict[str, str]:
        """Return why photos gave no face, by path without suffix."""
        return rejected_photos(self.root, self.store.manifest)
