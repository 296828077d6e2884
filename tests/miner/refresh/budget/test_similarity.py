from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facequarry.miner.refresh.budget.similarity import (
    MOST_PROBED,
    centres,
    faces_to_probe,
    order_by_similarity,
    probe_faces,
)


def test_the_probe_takes_the_first_faces_of_each_identity() -> None:
    face_indices = np.array([2, 3, 5, 8, 9, 11])
    identities = np.array([1, 0, 1, 1, 7, 0])
    assert probe_faces(face_indices, identities, 1).tolist() == [2, 3, 9]
    assert probe_faces(face_indices, identities, 2).tolist() == [2, 3, 5, 9, 11]
    assert probe_faces(face_indices, identities, 0).tolist() == []


def test_the_probe_costs_a_small_share_or_one_face_an_identity_or_nothing() -> None:
    assert faces_to_probe(100, most_faces=100_000) == MOST_PROBED
    assert faces_to_probe(100, most_faces=2_000) == 2
    assert faces_to_probe(100, most_faces=200) == 1
    assert faces_to_probe(100, most_faces=199) == 0


def test_centres_are_means() -> None:
    points = centres(np.eye(3, dtype=np.float32), np.array([9, 4, 9]), np.array([4, 9]))
    assert points.tolist() == [[0, 1, 0], [0.5, 0, 0.5]]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5))
def test_an_order_names_each_once(num: int, parts: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(num, 4)).astype(np.float32)
    order = order_by_similarity(points, np.arange(1, num + 1), parts)
    assert sorted(order) == list(range(num))


def test_identical_points_are_ordered_too() -> None:
    assert sorted(
        order_by_similarity(np.ones((9, 3), np.float32), np.ones(9, np.int64), 3)
    ) == list(range(9))


def test_those_who_look_alike_come_together() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.eye(3, 8), 20, axis=0)
    shuffled = random.permutation(60)
    points = (groups + 0.05 * random.normal(size=(60, 8))).astype(np.float32)[shuffled]
    order = order_by_similarity(points, np.ones(60, np.int64), 3)
    for part in np.split(shuffled[order] // 20, 3):
        assert np.unique(part).size == 1
