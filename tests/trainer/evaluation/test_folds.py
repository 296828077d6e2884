"""Folds share no identity, lose no pair of a small group and hold both kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.trainer.evaluation.face_pairs import verification_pairs
from facequarry.trainer.evaluation.folds import identity_folds
from facequarry.trainer.evaluation.pairs_file import read_pairs_file

Ends = npt.NDArray[np.int64]


@st.composite
def pairs_of_identities(draw: st.DrawFn) -> tuple[Ends, Ends]:
    one = st.integers(-5, 40)
    rows = draw(st.lists(st.one_of(st.tuples(one, one), one.map(lambda i: (i, i))), min_size=1))
    left, right = np.array(rows, dtype=np.int64).T
    return left, right


@given(pairs_of_identities(), st.integers(2, 10), st.integers(0, 3))
def test_no_identity_is_in_two_folds_and_each_fold_has_both_kinds(
    pairs: tuple[Ends, Ends], num_folds: int, seed: int
) -> None:
    left, right = pairs
    folds = identity_folds(left, right, num_folds=num_folds, seed=seed)
    if folds is None:
        return
    fold_of: dict[int, int] = {}
    for ends, fold in zip((left, right), folds, strict=True):
        for identity, number in zip(ends.tolist(), fold.tolist(), strict=True):
            assert fold_of.setdefault(identity, number) == number
    kinds = {
        (fold, first == second)
        for fold, other, first, second in zip(*folds, left, right, strict=True)
        if fold == other
    }
    count = int(folds.max()) + 1
    assert kinds == {(fold, kind) for fold in range(count) for kind in (True, False)}
    assert 2 <= count <= num_folds


@given(pairs_of_identities(), st.integers(0, 3))
def test_folds_depend_on_the_seed_alone(pairs: tuple[Ends, Ends], seed: int) -> None:
    first, again = (identity_folds(*pairs, seed=seed) for _ in range(2))
    assert (first is None) == (again is None)
    assert first is None or again is None or np.array_equal(first, again)


def test_small_groups_stay_whole() -> None:
    # 60 groups: two people, a pair of each, and the pair that ties them.
    first = np.arange(0, 120, 2)
    left = np.concatenate([first, first + 1, first])
    right = np.concatenate([first, first + 1, first + 1])
    folds = identity_folds(left, right, seed=0)
    assert folds is not None
    assert np.array_equal(folds[0], folds[1])
    assert np.bincount(folds[0]).tolist() == [18] * 10


def test_a_group_too_large_for_a_fold_is_taken_apart() -> None:
    identities = np.repeat(np.arange(40), 5)
    pairs = verification_pairs(identities, max_pairs=400, seed=0, different_per_same=20)
    folds = identity_folds(identities[pairs.left], identities[pairs.right], seed=0)
    assert folds is not None
    inside = folds[0] == folds[1]
    assert inside[pairs.is_same].all()
    assert np.bincount(folds[0, pairs.is_same]).tolist() == [40] * 10
    # Four people in each of ten folds: 60 of 780 pairings.
    assert inside[~pairs.is_same].mean() == pytest.approx(60 / 780, abs=0.02)


@pytest.mark.parametrize(("num_identities", "num_folds"), [(7, 2), (12, 3), (39, 9), (400, 10)])
def test_few_identities_make_few_folds(num_identities: int, num_folds: int) -> None:
    identities = np.repeat(np.arange(num_identities), 3)
    pairs = verification_pairs(identities, max_pairs=10_000, seed=0, different_per_same=20)
    folds = identity_folds(identities[pairs.left], identities[pairs.right], seed=0)
    assert folds is not None
    assert len(np.unique(folds)) == num_folds


def test_three_identities_make_no_folds() -> None:
    left, right = np.array([0, 1, 2, 0, 0, 1]), np.array([0, 1, 2, 1, 2, 2])
    assert identity_folds(left, right, seed=0) is None


def test_one_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="num_folds is 1"):
        identity_folds(np.array([0]), np.array([1]), num_folds=1, seed=0)


@pytest.mark.real_data
def test_the_development_set_loses_no_pair(real_data: Path) -> None:
    pairs = read_pairs_file(real_data / "lfw_devtrain" / "pairsDevTrain.txt")
    names = sorted({photo.identity for photo in (*pairs.left, *pairs.right)})
    number = {name: position for position, name in enumerate(names)}
    left, right = (
        np.array([number[photo.identity] for photo in side]) for side in (pairs.left, pairs.right)
    )
    folds = identity_folds(left, right, seed=0)
    assert folds is not None
    assert np.array_equal(folds[0], folds[1])
    for kind in (pairs.is_same, ~pairs.is_same):
        assert np.bincount(folds[0, kind]).tolist() == [110] * 10
