from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.miner.refresh.budget.rotation import (
    IDENTITIES_FILE,
    Rotation,
    next_part,
    read_rotation,
)

sizes_of_identities = st.lists(st.integers(1, 30), min_size=2, max_size=80)


def turns(faces: np.ndarray, most: int, least_rows: int = 0) -> list[np.ndarray]:
    """Take a whole cycle; return the identities of each refresh."""
    rotation = Rotation.starting(np.random.default_rng(0).permutation(faces.size))
    taken: list[np.ndarray] = []
    while rotation.left.size:
        left = rotation.left
        count = next_part(faces[left], faces[left] - 1, most=most, least_rows=least_rows)
        rotation = rotation.taken(count, len(taken))
        taken.append(rotation.embedded_by(len(taken)))
    return taken


@given(sizes_of_identities, st.integers(1, 400), st.integers(0, 9))
def test_a_cycle_takes_each_identity_once(faces: list[int], most: int, least_rows: int) -> None:
    taken = turns(np.array(faces), most, least_rows)
    assert sorted(np.concatenate(taken)) == list(range(len(faces)))
    assert all(part.size >= 2 for part in taken)


@given(sizes_of_identities, st.integers(90, 400))
def test_a_cycle_takes_as_few_refreshes_as_the_budget_allows(faces: list[int], most: int) -> None:
    sizes = [np.array(faces)[part].sum() for part in turns(np.array(faces), most)]
    # An identity is embedded whole, so a part may stay short of the budget by less than one.
    assert len(sizes) <= math.ceil(sum(faces) / (most - max(faces) + 1))
    # The last part may hold one identity more, that alone would have no negative.
    assert all(size <= most for size in sizes[:-1])
    assert sizes[-1] <= most + max(faces)


@given(st.integers(2, 300), st.integers(2, 9), st.integers(2, 100))
def test_identities_of_one_size_take_the_quotient_rounded_up(
    num: int, size: int, part: int
) -> None:
    assert len(turns(np.full(num, size), part * size)) <= math.ceil(num / part)


def test_parts_are_of_one_size_and_small_changes_of_the_budget_change_nothing() -> None:
    faces = np.full(90, 10)
    assert [part.size for part in turns(faces, 400)] == [30, 30, 30]
    assert [part.size for part in turns(faces, 330)] == [30, 30, 30]
    assert [part.size for part in turns(faces, 449)] == [30, 30, 30]


def test_the_least_is_taken_whatever_the_budget() -> None:
    faces = np.full(10, 4)
    assert [part.size for part in turns(faces, 1)] == [2] * 5
    assert [part.size for part in turns(faces, 1, least_rows=15)] == [5, 5]


def test_new_identities_are_first_in_line() -> None:
    rotation = Rotation.starting([4, 2, 0, 3]).taken(2, number=7).over(np.arange(6))
    assert rotation.left.tolist() == [1, 5, 0, 3]
    assert rotation.embedded_by(7).tolist() == [4, 2]


def test_a_cycle_comes_back_from_its_file(tmp_path: Path) -> None:
    rotation = Rotation.starting([4, 2, 0, 3]).taken(2, number=7).taken(1, number=8)
    (tmp_path / IDENTITIES_FILE).write_bytes(rotation.to_bytes())
    named = rotation.to_manifest(8)
    assert {key: named[key] for key in ("embedded", "left", "cycle")} == {
        "embedded": 1,
        "left": 1,
        "cycle": 4,
    }
    read = read_rotation(tmp_path, {"plan": {"identities": named}})
    assert read is not None
    assert read.order.tolist() == rotation.order.tolist()
    assert read.generation.tolist() == [7, 7, 8, -1]
    (tmp_path / IDENTITIES_FILE).unlink()
    with pytest.raises(ValueError, match="is missing or its bytes changed; restore that file"):
        read_rotation(tmp_path, {"plan": {"identities": named}})


def test_a_generation_of_all_identities_has_no_cycle(tmp_path: Path) -> None:
    assert read_rotation(tmp_path, {"plan": {"identities": None}}) is None
