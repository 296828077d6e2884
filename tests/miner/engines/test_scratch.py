"""One exact engine, search after search: what a thread keeps, and how the work is cut."""

from __future__ import annotations

import numpy as np
import pytest

import facequarry.miner.engines.exact
from benchmarks.galleries import untrained
from facequarry.miner.core.search import Workers
from facequarry.miner.engines.exact import ExactSearch
from facequarry.miner.engines.scratch import Scratch
from facequarry.miner.kernels.layout import Query, make_query
from facequarry.miner.selection.rows import check_rows

ROWS = check_rows(*untrained(600))
ALL = np.arange(600)
HERE, THERE = range(300), range(300, 600)


def ask(searches_per_anchor: int) -> list[Query]:
    slot = np.repeat(ALL, searches_per_anchor)
    low = np.linspace(0, 1.9, slot.size, dtype=np.float32)
    return [make_query(slot, low, low + np.float32(0.3))]


@pytest.mark.parametrize("threads", [1, 3])
def test_searches_of_more_and_of_fewer_find_what_a_new_engine_finds(threads: int) -> None:
    with Workers(threads) as workers:
        engine = ExactSearch(ROWS, workers)
        for searches_per_anchor in (1, 5, 2, 7, 1):
            queries = ask(searches_per_anchor)
            found = engine.search(ALL, queries)[0].best
            expected = ExactSearch(ROWS, workers).search(ALL, queries)[0].best
            assert expected.num.sum() > 0
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_a_thread_has_one_turn_for_all_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Watched(Scratch):
        def __init__(self, rows: int, columns: int, most_searches: int) -> None:
            super().__init__(rows, columns, most_searches)
            made.append(self)

    monkeypatch.setattr(facequarry.miner.engines.exact, "Scratch", Watched)
    with Workers(1) as workers:
        engine = ExactSearch(ROWS, workers)
        for searches_per_anchor in (2, 1, 4):
            engine.search(ALL, ask(searches_per_anchor))
            engine.search_between(ALL, ask(searches_per_anchor), HERE, THERE)
    assert len(made) == 1


def test_a_turn_that_is_fitted_to_more_searches_knows_what_it_learned() -> None:
    turn = Scratch(16, 32, 1)
    turn.give_up()
    turn.fit(5)
    assert (turn.room.left.low.shape, turn.room.right.high.shape) == ((5, 16), (5, 32))
    assert turn.is_costly() and not turn.is_costly()
    turn.fit(2)  # what many searches of one search took is not kept for the next
    assert (turn.room.left.high.shape, turn.room.right.low.shape) == ((2, 16), (2, 32))


@pytest.mark.parametrize("threads", [1, 2])
def test_progress_is_told_many_times(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facequarry.miner.engines.exact, "CHUNK_ROWS", 64)
    monkeypatch.setattr(facequarry.miner.engines.exact, "ONE_SIDED_UP_TO", 100)
    told: list[int] = []
    with Workers(threads) as workers:
        ExactSearch(ROWS, workers, told.append).search(ALL, ask(1))
    assert told == sorted(told)
    assert told[-1] == 600 * 600
    assert max(np.diff([0, *told])) < 600 * 600 / 20


def test_one_thread_cuts_what_is_cut_already_into_no_more_than_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facequarry.miner.engines.exact, "CHUNK_ROWS", 32)
    cuts = []
    rounds = facequarry.miner.engines.exact.rounds

    def rounds_seen(left, right, num_blocks):  # type: ignore[no-untyped-def]
        cuts.append(num_blocks)
        return rounds(left, right, num_blocks)

    monkeypatch.setattr(facequarry.miner.engines.exact, "rounds", rounds_seen)
    for threads in (1, 2):
        with Workers(threads) as workers:
            ExactSearch(ROWS, workers).search_between(ALL, ask(1), HERE, THERE)
    assert cuts == [2, 16]
