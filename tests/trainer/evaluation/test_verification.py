"""Pairs, verification and retrieval against slow direct definitions."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.trainer.evaluation.face_pairs import pair_d2, verification_pairs
from facequarry.trainer.evaluation.verification import retrieval, roc_points, verify

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@st.composite
def measured_pairs(draw: st.DrawFn) -> tuple[FloatArray, BoolArray]:
    """A few d2 with ties, at least one of each kind."""
    rows = draw(st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=30))
    rows += [(draw(st.integers(0, 8)), True), (draw(st.integers(0, 8)), False)]
    d2 = np.array([step / 2 for step, _ in rows], dtype=np.float32)
    return d2, np.array([is_same for _, is_same in rows])


def unit_rows(num_faces: int, *, seed: int, dim: int = 3) -> FloatArray:
    rows = np.random.default_rng(seed).normal(size=(num_faces, dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


# Pairs


@given(st.lists(st.integers(-3, 3), max_size=12), st.integers(0, 5), st.integers(1, 3))
def test_pairs_without_a_cap_are_all_same_pairs_and_a_sample_of_the_others(
    identities: list[int], seed: int, multiple: int
) -> None:
    every = list(combinations(range(len(identities)), 2))
    same = {pair for pair in every if identities[pair[0]] == identities[pair[1]]}
    if not same or len(set(identities)) < 2:
        with pytest.raises(ValueError, match="two"):
            verification_pairs(np.array(identities, dtype=int), max_pairs=99, seed=seed)
        return
    pairs = verification_pairs(
        np.array(identities), max_pairs=99, seed=seed, different_per_same=multiple
    )
    chosen = list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(every)
    assert {pair for pair, kind in zip(chosen, pairs.is_same, strict=True) if kind} == same
    assert (~pairs.is_same).sum() == min(multiple * len(same), len(every) - len(same))


def test_capped_pairs_are_a_uniform_sample_of_both_kinds() -> None:
    identities = np.array([7, 5, 7, 5, 7, 9])  # 4 same pairs, 11 different ones
    counts: dict[tuple[int, int], int] = {}
    num_seeds = 3000
    for seed in range(num_seeds):
        pairs = verification_pairs(identities, max_pairs=2, seed=seed)
        assert pairs.is_same.tolist() == [True, True, False, False]
        for pair in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
            counts[pair] = counts.get(pair, 0) + 1
    for (left, right), count in counts.items():
        expected = num_seeds * 2 / (4 if identities[left] == identities[right] else 11)
        assert abs(count - expected) < 5 * np.sqrt(expected)
    assert len(counts) == 15


def test_pairs_depend_on_the_seed_alone() -> None:
    identities = np.random.default_rng(0).integers(0, 50, size=1000)
    first, again, other = (
        verification_pairs(identities, max_pairs=500, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.left, again.left) and np.array_equal(first.right, again.right)
    assert not np.array_equal(first.left, other.left)
    assert np.array_equal(identities[first.left] == identities[first.right], first.is_same)


@pytest.mark.parametrize(
    ("identities", "max_pairs", "sentence"),
    [
        (np.array([1, 2, 3]), 9, "no identity has two faces among 3 faces"),
        (np.array([4, 4, 4]), 9, "all 3 faces are of one identity"),
        (np.array([], dtype=int), 9, "no identity has two faces"),
        (np.array([0.0, 0.0]), 9, "expected \\(N,\\) integers"),
        (np.array([[0, 0, 1]]), 9, "expected \\(N,\\) integers"),
        (np.array([0, 0, 1]), 0, "max_pairs is 0"),
    ],
)
def test_pairs_refuse_in_a_sentence(
    identities: npt.NDArray[np.integer], max_pairs: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        verification_pairs(identities, max_pairs=max_pairs, seed=0)


def test_pair_d2_is_the_sum_in_column_order() -> None:
    embeddings = unit_rows(20, seed=0, dim=17)
    left, right = np.arange(19), np.arange(1, 20)
    for d2, a, b in zip(pair_d2(embeddings, left, right), left, right, strict=True):
        total = 0.0
        for x, y in zip(embeddings[a].tolist(), embeddings[b].tolist(), strict=True):
            total += (x - y) ** 2
        assert d2 == np.float32(total)


# Verification


@given(measured_pairs())
def test_auc_counts_pairs_of_pairs(measured: tuple[FloatArray, BoolArray]) -> None:
    d2, is_same = measured
    wins = [
        1.0 if same < different else 0.5 if same == different else 0.0
        for same in d2[is_same]
        for different in d2[~is_same]
    ]
    assert verify(d2, is_same).auc == pytest.approx(np.mean(wins))


@given(measured_pairs())
def test_threshold_is_the_best_there_is(measured: tuple[FloatArray, BoolArray]) -> None:
    d2, is_same = measured
    found = verify(d2, is_same)
    accuracies = [
        (np.mean(d2[is_same] < threshold) + np.mean(d2[~is_same] >= threshold)) / 2
        for threshold in [0.0, *np.arange(0.25, 5, 0.5)]
    ]
    reached = (found.true_accepts / found.num_same + found.true_rejects / found.num_different) / 2
    assert reached == pytest.approx(max(accuracies))
    assert found.true_accepts == (d2[is_same] < found.threshold_d2).sum()
    assert found.false_accepts == (d2[~is_same] < found.threshold_d2).sum()
    assert found.true_accepts + found.false_rejects == found.num_same == is_same.sum()
    assert found.false_accepts + found.true_rejects == found.num_different


@given(measured_pairs())
def test_eer_lies_on_the_roc(measured: tuple[FloatArray, BoolArray]) -> None:
    d2, is_same = measured
    far, tar = roc_points(d2, is_same)
    eer = verify(d2, is_same).eer
    # Bisection of the ROC in straight lines, parametrised by its length in both directions.
    along, low, high = far + tar, 0.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        above = np.interp(middle, along, far) + np.interp(middle, along, tar) >= 1
        low, high = (low, middle) if above else (middle, high)
    assert eer == pytest.approx(np.interp(high, along, far), abs=1e-9)


def test_tar_at_far_is_the_best_threshold_within_the_false_accepts() -> None:
    rng = np.random.default_rng(3)
    is_same = np.arange(12_500) < 2500
    d2 = np.where(is_same, rng.normal(0.9, 0.3, 12_500), rng.normal(1.8, 0.4, 12_500))
    d2 = np.round(np.clip(d2, 0, 4), 2).astype(np.float32)  # rounded, so that there are ties
    found = verify(d2, is_same).tar_at_far
    for name, far in (("1e-2", 1e-2), ("1e-3", 1e-3)):
        allowed = [
            threshold
            for threshold in np.unique(d2)
            if np.sum(d2[~is_same] < threshold) <= far * 10_000
        ]
        assert found[name] == np.mean(d2[is_same] < max(allowed))
    assert found["1e-4"] is None


@pytest.mark.parametrize(
    ("num_different", "measured"),
    [(999, set()), (1000, {"1e-2"}), (9999, {"1e-2"}), (100_000, {"1e-2", "1e-3", "1e-4"})],
)
def test_a_rate_is_not_available_below_ten_false_accepts(
    num_different: int, measured: set[str]
) -> None:
    d2 = np.linspace(0, 4, num_different + 20, dtype=np.float32)
    tar_at_far = verify(d2, np.arange(num_different + 20) < 20).tar_at_far
    assert {name for name, tar in tar_at_far.items() if tar is not None} == measured


def test_accuracy_chooses_each_threshold_on_the_other_folds() -> None:
    # In fold 0 every pair lies 1 higher than in fold 1: either's threshold misjudges the other.
    d2 = np.array([1.2, 1.3, 1.7, 1.8, 0.2, 0.3, 0.7, 0.8], dtype=np.float32)
    is_same = np.array([True, True, False, False] * 2)
    found = verify(d2, is_same, np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    assert (found.accuracy, found.accuracy_std, found.num_folds) == (0.5, 0.0, 2)


def test_accuracy_is_not_moved_by_the_proportion_of_the_kinds() -> None:
    rng = np.random.default_rng(5)
    same, different = rng.normal(1.0, 0.3, 1000), rng.normal(1.6, 0.3, 1000)
    d2 = np.concatenate([same, np.tile(different, 20)]).clip(0, 4).astype(np.float32)
    few = verify(d2[:2000], np.arange(2000) < 1000)
    many = verify(d2, np.arange(21_000) < 1000)
    assert many.accuracy == pytest.approx(few.accuracy, abs=0.01)
    assert few.accuracy == pytest.approx(0.84, abs=0.02)  # Phi(1), the two normals' overlap
    assert few.accuracy_std is not None and 0 < few.accuracy_std < 0.06


@given(measured_pairs(), st.integers(0, 2**32 - 1))
def test_accuracy_against_a_loop_over_folds(
    measured: tuple[FloatArray, BoolArray], seed: int
) -> None:
    d2, is_same = measured
    fold_of = np.random.default_rng(seed).integers(0, 3, size=(2, len(d2)))
    rows = list(zip(d2.tolist(), is_same.tolist(), *fold_of.tolist(), strict=True))
    accuracies, judged = [], 0
    for fold in range(3):
        inside = [(x, same) for x, same, left, right in rows if left == right == fold]
        outside = [(x, same) for x, same, left, right in rows if fold not in (left, right)]
        if all(len({same for _, same in pairs}) == 2 for pairs in (inside, outside)):
            # Ascending, so that `max` keeps the lowest of equally good thresholds; the d2 are
            # multiples of a half, so every cut between two of them is alike.
            values = sorted({x for x, _ in outside})
            cuts = [0.0, *((a + b) / 2 for a, b in zip(values, values[1:], strict=False))]
            cuts.append(values[-1] + 1e-6)
            best = max(cuts, key=lambda cut: balanced(outside, cut))
            accuracies.append(float(balanced(inside, best)))
            judged += len(inside)
    found = verify(d2, is_same, fold_of)
    if len(accuracies) < 2:
        assert (found.accuracy, found.accuracy_std, found.num_folds) == (None, None, 0)
        assert found.num_left_out_same + found.num_left_out_different == len(rows)
        return
    assert found.accuracy == pytest.approx(np.mean(accuracies))
    assert found.accuracy_std == pytest.approx(np.std(accuracies, ddof=1))
    assert found.num_folds == len(accuracies)
    assert found.num_left_out_same + found.num_left_out_different == len(rows) - judged


def balanced(pairs: list[tuple[float, bool]], cut: float) -> Fraction:
    """Return the mean of the share of same pairs below and of different pairs not below."""
    kinds = [[(x < cut) == same for x, same in pairs if same is kind] for kind in (True, False)]
    return sum((Fraction(sum(right), len(right)) for right in kinds), Fraction()) / 2


def test_folds_move_the_accuracy_alone() -> None:
    rng = np.random.default_rng(0)
    d2, is_same = rng.uniform(0, 4, 400).astype(np.float32), np.arange(400) < 100
    first, second = (
        verify(d2, is_same, rng.integers(0, 5, size=(2, 400))).to_dict() for _ in range(2)
    )
    moved = {name for name in first if first[name] != second[name]}
    assert moved == {"accuracy", "accuracy_std", "num_left_out_same", "num_left_out_different"}


@pytest.mark.parametrize(
    ("same_d2", "different_d2", "auc", "eer", "accuracy"),
    [(0.5, 1.5, 1.0, 0.0, 1.0), (1.0, 1.0, 0.5, 0.5, 0.5), (1.5, 0.5, 0.0, 1.0, 0.5)],
    ids=["perfect", "all equal", "inverted"],
)
def test_degenerate_distances(
    same_d2: float, different_d2: float, auc: float, eer: float, accuracy: float
) -> None:
    is_same = np.arange(2000) < 1000
    d2 = np.where(is_same, same_d2, different_d2).astype(np.float32)
    found = verify(d2, is_same)
    assert (found.auc, found.eer, found.accuracy) == (auc, eer, accuracy)
    assert found.tar_at_far == {"1e-2": auc == 1.0, "1e-3": None, "1e-4": None}
    assert found.num_folds == 10


def test_one_pair_of_each_kind_is_enough() -> None:
    found = verify(np.array([0.1, 3.0], dtype=np.float32), np.array([True, False]))
    assert found.auc == 1.0
    assert (found.accuracy, found.num_folds) == (None, 0)  # no second fold to take a threshold from
    assert found.threshold_d2 == pytest.approx(1.55)


def test_a_threshold_parts_neighbouring_floats() -> None:
    low = np.float32(1.0)
    d2 = np.array([low, np.nextafter(low, np.float32(2))] * 10, dtype=np.float32)
    assert verify(d2, np.array([True, False] * 10)).accuracy == 1.0


def test_figures_are_json() -> None:
    found = verify(np.linspace(0, 4, 40, dtype=np.float32), np.arange(40) < 20)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()
    assert found.to_dict()["tar_at_far"] == {"1e-2": None, "1e-3": None, "1e-4": None}


@pytest.mark.parametrize(
    ("d2", "is_same", "fold_of", "sentence"),
    [
        ([1.0, 2.0], [True, True], None, "2 same and 0 different pairs"),
        ([1.0, 2.0], [False, False], None, "0 same and 2 different pairs"),
        ([1.0, np.nan], [True, False], None, "not finite"),
        ([1.0, -1.0], [True, False], None, "negative"),
        ([1.0], [True, False], None, "expected \\(P,\\)"),
        ([1.0, 2.0], [1, 0], None, "expected \\(P,\\)"),
        ([1.0, 2.0], [True, False], [0], "fold_of has shape"),
    ],
)
def test_verify_refuses_in_a_sentence(
    d2: list[float], is_same: list[bool], fold_of: list[int] | None, sentence: str
) -> None:
    folds = None if fold_of is None else np.array(fold_of)
    with pytest.raises(ValueError, match=sentence):
        verify(np.array(d2, dtype=np.float32), np.array(is_same), folds)


# Retrieval


@pytest.mark.parametrize("seed", range(5))
def test_retrieval_against_a_ranked_list_for_each_query(seed: int) -> None:
    identities = np.random.default_rng(seed).integers(0, 60, size=300) + 2**24
    embeddings = unit_rows(300, seed=seed)
    firsts, average_precisions = [], []
    for query in range(300):
        d2 = ((embeddings - embeddings[query]).astype(np.float64) ** 2).sum(axis=1)
        ranked = [row for row in np.argsort(d2, kind="stable") if row != query]
        hits = identities[ranked] == identities[query]
        relevant = int(hits.sum())
        if relevant == 0:
            continue
        firsts.append(hits[0])
        precisions = [hits[: rank + 1].mean() * hits[rank] for rank in range(relevant)]
        average_precisions.append(sum(precisions) / relevant)
    found = retrieval(embeddings, identities)
    assert found.num_queries == len(firsts)
    assert found.precision_at_1 == pytest.approx(np.mean(firsts))
    assert found.map_at_r == pytest.approx(np.mean(average_precisions))


def test_equal_faces_tie_and_the_lower_row_is_found() -> None:
    embeddings = np.repeat(unit_rows(1, seed=0, dim=64), 4, axis=0)
    assert retrieval(embeddings, np.array([0, 1, 0, 1])).to_dict() == {
        "num_queries": 4,
        "precision_at_1": 0.25,  # row 2 finds row 0, every other query a stranger
        "map_at_r": 0.25,
    }


def test_perfect_retrieval() -> None:
    embeddings = np.repeat(unit_rows(10, seed=1), 5, axis=0)
    found = retrieval(embeddings, np.repeat(np.arange(10), 5))
    assert (found.precision_at_1, found.map_at_r) == (1.0, 1.0)


def test_retrieval_refuses_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="no identity has two faces among 3"):
        retrieval(unit_rows(3, seed=0), np.array([1, 2, 3]))
    with pytest.raises(ValueError, match="expected \\(N, D\\) and \\(N,\\)"):
        retrieval(unit_rows(3, seed=0), np.array([1, 1]))
