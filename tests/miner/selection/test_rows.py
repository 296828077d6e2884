from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from facequarry.miner import mine
from facequarry.miner.selection.rows import check_rows
from tests.miner.inputs import on_circle, separated

X = on_circle([0, 10, 12, 25])
NAMES = [0, 0, 1, 1]


def changed(row: int, value: float) -> Any:
    x = X.copy()
    x[row] *= value
    return x


@pytest.mark.parametrize(
    ("x", "names", "sentence"),
    [
        (X[0], NAMES, r"shape \(N, D\), got \(2,\)"),
        (X[:, :0], NAMES, r"shape \(N, D\), got \(4, 0\)"),
        (np.ones((4, 1), np.int64), NAMES, "floating-point, got int64"),
        (X, NAMES[:3], r"identities must have shape \(4,\)"),
        (X, [0.5, 0.5, 1.0, 1.0], "identities must be integers or strings"),
        (changed(2, np.nan), NAMES, r"row 2 of embeddings holds NaN or infinity \(1 rows do\)"),
        (changed(1, np.inf), NAMES, "row 1 of embeddings holds NaN or infinity"),
        (changed(3, 1.002), NAMES, "row 3 of embeddings has norm 1.002, expected 1"),
        (changed(0, 0.0), NAMES, "row 0 of embeddings has norm 0, expected 1"),
        (X.astype(np.float64) * 1e300, NAMES, "holds NaN or infinity"),
        (X, [7, 7, 7, 7], "at least two identities, got 1"),
        (X[:0], [], "at least two identities, got 0"),
        (X, [0, 1, 2, 3], "at least two faces"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(x: Any, names: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        mine(x, names)


@pytest.mark.parametrize("ids", [[0, 1, 2], [0, 2, 2, 3], [3, 2, 1, 0], [-1, 0, 1, 2]])
def test_bad_row_ids_are_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="row_ids"):
        mine(X, NAMES, row_ids=np.array(ids))


def test_norms_within_a_thousandth_are_taken_as_given() -> None:
    x = X * np.float32(1.0009)
    assert np.array_equal(check_rows(x, NAMES).x, x)


def test_other_layouts_and_types_are_accepted() -> None:
    x, identities = separated(5, 4, 8, 0.8)
    expected = mine(x, identities).table
    read_only = x.copy()
    read_only.flags.writeable = False
    for same in (read_only, np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x.astype(float)):
        assert mine(same, identities.astype(np.uint8)).table.equals(expected)
    half = x.astype(np.float16)
    assert mine(half, identities).table.equals(mine(half.astype(np.float32), identities).table)


@pytest.mark.parametrize("kind", [str, object])
def test_string_identities_are_accepted(kind: type) -> None:
    x, identities = separated(5, 4, 8, 0.8)
    names: Any = np.array([f"n{identity:06}" for identity in identities], dtype=kind)
    assert mine(x, names).table.equals(mine(x, identities).table)


def test_rows_are_sorted_by_identity_then_id() -> None:
    rows = check_rows(X, [1, 0, 1, 0], np.array([5, 6, 8, 9]))
    assert rows.ids.tolist() == [6, 9, 5, 8]
    assert rows.first.tolist() == [0, 0, 2, 2]
    assert rows.last.tolist() == [2, 2, 4, 4]


def test_row_ids_that_are_no_integers_are_refused() -> None:
    with pytest.raises(ValueError, match="row_ids must be integers, got float64"):
        mine(X, NAMES, row_ids=np.arange(len(X)) + 0.5)  # type: ignore[arg-type]
