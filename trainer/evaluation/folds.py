"""Folds of identities: pairs that are judged share no person with those that set the threshold.

    fold_of = identity_folds(identities[pairs.left], identities[pairs.right], seed=0)
    verification = verify(d2, pairs.is_same, fold_of)

A pair of two identities ties their folds together. Where such ties form small groups, as in LFW's
lists, each group goes into one fold and no pair is lost. A group with more pairs than one fold
should have is taken apart: its identities are dealt out one by one, and its pairs between two
folds are judged in none. They still help to choose the thresholds of the other folds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from facequarry.datasets.disk.errors import BadInput
from facequarry.trainer.evaluation.face_pairs import IntArray

# Two people make one pairing: whether they resemble each other would be a fold's whole answer.
_IDENTITIES_PER_FOLD = 4


def identity_folds(
    left: npt.NDArray[np.integer],
    right: npt.NDArray[np.integer],
    *,
    num_folds: int = 10,
    seed: int,
) -> IntArray | None:
    """Deal the identities of pairs out to folds that hold about as many pairs of either kind.

    Args:
        left: (P,) integer, identity of each pair's first face.
        right: (P,) integer, identity of its second face; the same for a same-identity pair.
        num_folds: how many folds, at least 2. There are fewer where the identities do not suffice
            for four of them, and pairs of both kinds, in each.
        seed: of the deal.

    Returns:
        (2, P) int64, the fold of each pair's identities: a pair lies in a fold when both do. None
        where not even two folds can hold both kinds.
    """
    if num_folds < 2:
        raise BadInput(f"num_folds is {num_folds}, expected at least 2")
    _, flat = np.unique(np.concatenate([left, right]), return_inverse=True)
    ends: IntArray = flat.reshape(2, -1).astype(np.int64)
    is_same = ends[0] == ends[1]
    groups = _tied_groups(ends[:, ~is_same], int(ends.max()) + 1)
    pairs_of_group = np.bincount(groups[ends[0]], minlength=len(groups))
    singles = np.arange(len(groups))
    most = max(2, min(num_folds, len(groups) // _IDENTITIES_PER_FOLD))
    for count in range(most, 1, -1):
        is_large = pairs_of_group[groups] > len(is_same) / count
        # A group is numbered by one of its identities: taken apart, that number is free again.
        units = np.where(is_large, singles, groups)
        fold_of = _deal(units[ends], is_same, len(groups), count, seed)
        inside = fold_of[0] == fold_of[1]
        if all(len(np.unique(fold_of[0, inside & kind])) == count for kind in (is_same, ~is_same)):
            return fold_of
    return None


def _tied_groups(ends: IntArray, num_identities: int) -> IntArray:
    """Return (I,) int64, for each identity the number of one identity of its connected group."""
    above = list(range(num_identities))

    def top(identity: int) -> int:
        while above[identity] != identity:
            above[identity] = above[above[identity]]
            identity = above[identity]
        return identity

    for first, second in np.unique(np.sort(ends, axis=0), axis=1).T.tolist():
        above[top(first)] = top(second)
    return np.array([top(identity) for identity in range(num_identities)], dtype=np.int64)


def _deal(
    units: IntArray, is_same: npt.NDArray[np.bool_], size: int, count: int, seed: int
) -> IntArray:
    """Deal units out, heaviest first, each to the fold that has least of what the unit brings.

    Args:
        units: (2, P) int64, the unit of each pair's identities, below `size`.
        is_same: (P,) bool.
        size: numbers that a unit may have.
        count: how many folds.
        seed: of the order among units of equal weight.

    Returns:
        (2, P) int64, the fold of each pair's identities.
    """
    brings = np.stack(
        [
            np.bincount(units[0, is_same], minlength=size) / max(is_same.sum(), 1),
            np.bincount(units[:, ~is_same].ravel(), minlength=size) / max((~is_same).sum(), 1) / 2,
        ],
        axis=1,
    )
    shuffled = np.random.default_rng(seed).permutation(np.unique(units))
    heaviest_first = shuffled[np.argsort(-brings[shuffled].sum(axis=1), kind="stable")]
    loads = np.zeros((count, 2))
    fold_of = np.zeros(size, dtype=np.int64)
    for unit in heaviest_first:
        # Where the sum of the squared loads, which is least when all are equal, grows least.
        fold_of[unit] = np.argmin(loads @ brings[unit])
        loads[fold_of[unit]] += brings[unit]
    return fold_of[units]
