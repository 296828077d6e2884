from __future__ import annotations

import pytest

from benchmarks.galleries import GALLERIES
from benchmarks.in_batch import STATES, check_same, compare, ours, theirs


@pytest.mark.parametrize("name", STATES)
def test_both_miners_say_the_same_pairs_are_semi_hard(name: str) -> None:
    gallery = GALLERIES[name](200)
    pairs = ours(gallery)
    semi_hard, on_edge = check_same(gallery, pairs, theirs(gallery))
    assert semi_hard <= pairs[0].size <= semi_hard + on_edge
    assert on_edge < 20


def test_a_pair_that_one_of_them_misses_is_an_error() -> None:
    gallery = GALLERIES["untrained"](200)
    right = ours(gallery)
    left = right[0] != 0
    wrong = right[0][left], right[1][left]
    with pytest.raises(RuntimeError, match="pytorch-metric-learning is wrong about 19 pairs"):
        check_same(gallery, right, wrong)


def test_a_gallery_is_measured_in_time_and_memory() -> None:
    row = compare("confusable", num_faces=200, repeats=1)
    assert row.ours_s > 0 and row.theirs_s > 0
    assert row.ours_bytes > 0 and row.theirs_bytes > 0
