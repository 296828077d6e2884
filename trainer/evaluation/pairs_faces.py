"""The faces that a pairs file names, after the pairs that a model may not be judged on are gone.

    kept, dropped = leave_out(named, part_of, held_out_only=True, part=None)
    pairs = find_faces(kept, store, rejected_photos(root, store.manifest))

Every pair of the file is either kept or counted with the reason why it is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.snapshots import Snapshot
from facequarry.datasets.faces.split import Part
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.ingest.known import Known
from facequarry.trainer.evaluation.face_pairs import BoolArray, IntArray
from facequarry.trainer.evaluation.pairs_file import NamedPairs, PhotoName

TRAINED = "with people trained on"
_SHOWN_NAMES = 3


class TrainingPairs(BadInput):
    """Pairs touch people that the model was trained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FacePairs:
    """Pairs of faces that a file named, same-identity or not in any order."""

    left: IntArray
    """(P,) int64, face_index of each pair's first face."""
    right: IntArray
    """(P,) int64, face_index of its second face."""
    is_same: BoolArray
    """(P,) bool."""
    fold_of: IntArray | None
    """(P,) int64, the file's fold of each pair; None where the file has one set."""
    rejected: dict[str, int]
    """Pairs left out because a photo gave no face, by the reason of its rejection."""

    @property
    def face_indices(self) -> IntArray:
        """(N,) int64, every face that a pair has, ascending."""
        return np.unique(np.concatenate([self.left, self.right]))


def leave_out(
    pairs: NamedPairs,
    part_of: Callable[[str], Part],
    *,
    held_out_only: bool,
    part: Part | None = None,
) -> tuple[NamedPairs, dict[str, int]]:
    """Return the pairs of people who were not trained on, and how many others there were.

    Args:
        pairs: as read from the file.
        part_of: the part of an identity; `train` is what the model was trained on. People of the
            tuning part gave it no gradient and are no reason to leave out a pair.
        held_out_only: leave out pairs with a person of `train`, rather than refuse.
        part: if given, both people of a pair have to be in it.

    Raises:
        TrainingPairs: there are such pairs, and `held_out_only` is false.
        BadInput: no matched or no mismatched pair is left.
    """
    parts = {photo.identity: part_of(photo.identity) for photo in (*pairs.left, *pairs.right)}
    left = np.array([parts[photo.identity] for photo in pairs.left], dtype=object)
    right = np.array([parts[photo.identity] for photo in pairs.right], dtype=object)
    is_trained = (left == "train") | (right == "train")
    num_trained = int(is_trained.sum())
    if num_trained and not held_out_only:
        people = sum(found == "train" for found in parts.values())
        raise TrainingPairs(
            f"{num_trained} of the {len(pairs)} pairs in {pairs.path} touch {people} people that "
            f"the model was trained on; --held-out-only keeps the other {len(pairs) - num_trained}"
        )
    is_elsewhere = np.zeros(len(pairs), dtype=bool)
    if part is not None:
        is_elsewhere = ~is_trained & ((left != part) | (right != part))
    dropped = {
        TRAINED: num_trained,
        f"with people outside the {part} part": int(is_elsewhere.sum()),
    }
    kept = pairs.only(~is_trained & ~is_elsewhere)
    _check_both_kinds(kept.is_same, pairs, dropped)
    return kept, {reason: count for reason, count in dropped.items() if count}


def find_faces(pairs: NamedPairs, store: FaceStore, rejected: Mapping[str, str]) -> FacePairs:
    """Look up the faces of the pairs' photos by identity and source.

    Args:
        pairs: what to look for.
        store: the faces.
        rejected: reasons of the photos that gave no face, by path without suffix.

    Raises:
        BadInput: a photo is neither a face nor rejected; or two faces have its name; or no
            matched or no mismatched pair is left.
    """
    faces = _faces_by_stem(pairs, store)
    stems = [(left.stem, right.stem) for left, right in zip(pairs.left, pairs.right, strict=True)]
    absent = {stem for pair in stems for stem in pair} - faces.keys() - rejected.keys()
    if absent:
        _refuse_absent(pairs, store, absent)
    # A pair of two rejected photos counts once, under its first photo's reason.
    lost = [next((rejected[s] for s in pair if s not in faces), None) for pair in stems]
    is_found = np.array([reason is None for reason in lost], dtype=bool)
    reasons = Counter(reason for reason in lost if reason is not None)
    found = pairs.only(is_found)
    _check_both_kinds(found.is_same, pairs, reasons)
    return FacePairs(
        left=np.array([faces[photo.stem] for photo in found.left], dtype=np.int64),
        right=np.array([faces[photo.stem] for photo in found.right], dtype=np.int64),
        is_same=found.is_same,
        fold_of=found.fold_of,
        rejected=dict(sorted(reasons.items())),
    )


def rejected_photos(root: Path, snapshot: Snapshot) -> dict[str, str]:
    """Return why photos of a snapshot gave no face, by path without suffix.

    Raises:
        CorruptShard: the snapshot's rejects cannot be read.
    """
    known = Known.nothing().plus(root, [shard.summary for shard in snapshot.shards])
    columns = (known.rejects[name].to_pylist() for name in ("source", "reason"))
    return {_stem(source): reason for source, reason in zip(*columns, strict=True)}


def _faces_by_stem(pairs: NamedPairs, store: FaceStore) -> dict[str, int]:
    wanted = {photo.identity for photo in (*pairs.left, *pairs.right)}
    is_wanted = np.array([identity in wanted for identity in store.identities], dtype=bool)
    face_indices = np.flatnonzero(is_wanted[store.identity_index])
    named = {photo.stem for photo in (*pairs.left, *pairs.right)}
    faces: dict[str, int] = {}
    for face, source in zip(face_indices.tolist(), store.sources(face_indices), strict=True):
        stem = _stem(source)
        if stem in faces and stem in named:
            raise BadInput(
                f"{pairs.path} names {stem}, and two photos of the faces have this name with "
                "different suffixes; remove one of them and ingest into a new folder"
            )
        faces[stem] = face
    return faces


def _stem(source: str) -> str:
    return str(PurePosixPath(source).with_suffix(""))


def _refuse_absent(pairs: NamedPairs, store: FaceStore, absent: set[str]) -> None:
    names = set(store.identities)
    in_order = dict.fromkeys(photo for photo in (*pairs.left, *pairs.right) if photo.stem in absent)
    people = {photo.identity for photo in in_order if photo.identity not in names}
    shown = ", ".join(
        _described(photo, photo.identity in names) for photo in list(in_order)[:_SHOWN_NAMES]
    )
    more = ", ..." if len(in_order) > _SHOWN_NAMES else ""
    raise BadInput(
        f"{pairs.path} names {len(in_order)} photos that were never ingested, {len(people)} people "
        f"among them without any face: {shown}{more}; ingest all of the file's photos with: "
        "facequarry ingest --source PHOTOS --out faces/all "
        f"--crop-px {store.manifest.options['crop_px']}, then evaluate with --faces faces/all"
    )


def _described(photo: PhotoName, is_person_known: bool) -> str:
    return photo.stem if is_person_known else f"{photo.stem} (no such person)"


def _check_both_kinds(is_same: BoolArray, pairs: NamedPairs, dropped: Mapping[str, int]) -> None:
    if is_same.all() or not is_same.any():
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
        raise BadInput(
            f"{int(is_same.sum())} matched and {int((~is_same).sum())} mismatched pairs are left "
            f"of the {len(pairs)} in {pairs.path} (left out: {why or 'none'}); verification needs "
            "at least one of each"
        )
