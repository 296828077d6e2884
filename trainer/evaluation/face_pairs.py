"""Pairs of faces to verify: two faces, and whether they show one identity.

`verification_pairs` chooses them, `pair_d2` measures them, `evaluation.verification` judges the
distances.

    pairs = verification_pairs(identity_index, max_pairs=20_000, seed=0)
    d2 = pair_d2(embeddings, pairs.left, pairs.right)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from facequarry.datasets.disk.errors import BadInput

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class DrawnPairs:
    """Unordered pairs of faces, same-identity pairs first; no pair occurs twice."""

    left: IntArray
    """(P,) int64, row number of the pair's first face; always below `right`."""
    right: IntArray
    """(P,) int64, row number of the pair's second face."""
    is_same: BoolArray
    """(P,) bool, the two faces share their identity."""


def verification_pairs(
    identity_index: npt.NDArray[np.integer],
    *,
    max_pairs: int,
    seed: int,
    different_per_same: int = 1,
) -> DrawnPairs:
    """Choose same-identity pairs, and different-identity pairs to set against them.

    Every same-identity pair is taken while there are at most `max_pairs`; beyond that, a uniform
    sample without replacement. Different-identity pairs are always such a sample, or all of them
    where fewer exist than are asked for. One input and one seed give one answer.

    Args:
        identity_index: (N,) integer, identity of each face; any numbers in any order.
        max_pairs: most same-identity pairs to take, at least 1.
        seed: of the sample, at least 0.
        different_per_same: different-identity pairs for each same-identity pair, at least 1. A
            low false accept rate takes many: 10 / FAR of them.

    Raises:
        BadInput: the array is not (N,) integers, a count is below 1, no identity has two faces,
            or there are fewer than two identities.
    """
    identities = np.asarray(identity_index)
    if identities.ndim != 1 or not np.issubdtype(identities.dtype, np.integer):
        raise BadInput(
            f"identity_index is {identities.dtype} of shape {identities.shape}, "
            "expected (N,) integers"
        )
    if max_pairs < 1 or different_per_same < 1:
        raise BadInput(
            f"max_pairs is {max_pairs} and different_per_same {different_per_same}, "
            "expected at least 1 of each"
        )
    # With the faces in order of identity, the partners of the face at a position form a run: the
    # earlier faces of its own identity, or all faces of the earlier identities. Numbering the
    # pairs run by run makes a uniform sample of pairs a uniform sample of numbers.
    order = np.argsort(identities, kind="stable")
    in_order = identities[order]
    starts = np.searchsorted(in_order, in_order, side="left")
    positions = np.arange(len(in_order))
    if not np.any(positions > starts):
        raise BadInput(
            f"no identity has two faces among {len(in_order)} faces; "
            "verification needs at least one pair of the same identity"
        )
    if not np.any(starts):
        raise BadInput(
            f"all {len(in_order)} faces are of one identity; verification needs two identities"
        )
    rng = np.random.default_rng(seed)
    same = _sample_pairs(starts, positions - starts, max_pairs, rng)
    wanted = different_per_same * len(same[0])
    different = _sample_pairs(np.zeros_like(starts), starts, wanted, rng)
    faces = order[np.concatenate([same, different], axis=1)]
    is_same = np.arange(faces.shape[1]) < len(same[0])
    return DrawnPairs(left=faces.min(axis=0), right=faces.max(axis=0), is_same=is_same)


def pair_d2(embeddings: FloatArray, left: IntArray, right: IntArray) -> FloatArray:
    """Return the d2 of each pair, (P,) float32, squared L2 on unit rows, 0..4.

    This is d2 as FaceQuarry defines it: squares of differences accumulated in float64 in the order
    of the columns, then rounded to float32.

    Args:
        embeddings: (N, D) float32, unit rows.
        left: (P,) int64, row of each pair's first face.
        right: (P,) int64, row of each pair's second face.
    """
    total = np.zeros(len(left), dtype=np.float64)
    for column in np.ascontiguousarray(embeddings.T, dtype=np.float64):
        difference = column[left] - column[right]
        total += difference * difference
    return total.astype(np.float32)


def _sample_pairs(
    first_partner: IntArray, num_partners: IntArray, wanted: int, rng: np.random.Generator
) -> IntArray:
    """Return (2, P) positions: a partner and the face whose run of partners it comes from."""
    ends = np.cumsum(num_partners)
    total = int(ends[-1])
    numbers = (
        np.arange(total)
        if wanted >= total
        else np.sort(rng.choice(total, size=wanted, replace=False, shuffle=False))
    )
    faces = np.searchsorted(ends, numbers, side="right")
    partners = first_partner[faces] + numbers - (ends - num_partners)[faces]
    return np.stack([partners, faces])
