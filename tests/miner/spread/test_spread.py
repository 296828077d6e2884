"""One search shared out, by miners in this process, against one engine over all rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.miner import mine
from facequarry.miner.config import MinerConfig
from facequarry.miner.core.hashing import hash_state
from facequarry.miner.core.search import Workers
from facequarry.miner.engines.exact import ExactSearch
from facequarry.miner.kernels.layout import (
    FARTHEST,
    HASH,
    NEAREST,
    Found,
    Query,
    Rows,
    Searches,
    make_query,
)
from facequarry.miner.selection.rows import check_rows
from facequarry.miner.spread.spread import (
    LEAST_BLOCK_ROWS,
    BestLists,
    Span,
    SpreadSearch,
    Task,
    choose_num_blocks,
    cut_blocks,
    merge,
    plan_tasks,
)
from tests.miner.inputs import configs, galleries, separated
from tests.miner.spreading import open_spread, spread

ROWS = check_rows(*separated(40, 5, 8, 1.0))
ALL = np.argsort(ROWS.ids)


def queries_of(rows: Rows, anchors: np.ndarray) -> list[Query]:
    """Return queries of every sort about the anchors, three searches each."""
    slot = np.repeat(np.arange(anchors.size), 3)
    row = anchors[slot]
    low = np.tile(np.array([0.0, 0.2, 0.9], np.float32), anchors.size)
    high = low + np.tile(np.array([0.3, 1.0, 4.0], np.float32), anchors.size)
    state = hash_state(7, 2, rows.ids[row])
    return [
        make_query(slot, low, high),
        make_query(slot, low, high, order=FARTHEST, wanted=3),
        make_query(slot, low, high, order=HASH, wanted=2, state=state),
        make_query(slot, low, high, order=NEAREST, wanted=3, distinct=True),
        make_query(slot, low, high, order=HASH, wanted=3, distinct=True, state=state),
        make_query(slot, low, high, wanted=4, counted=True),
    ]


def in_one(rows: Rows, anchors: np.ndarray, queries: list[Query]) -> list[Found]:
    with Workers(1) as workers:
        return ExactSearch(rows, workers).search(anchors, queries)


def assert_same(found: list[Found], expected: list[Found]) -> None:
    """Compare all that is read of answers: entries that are there, their number and totals."""
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.complete.all()
        assert ours.best.num.tobytes() == theirs.best.num.tobytes()
        assert ours.best.row.tobytes() == theirs.best.row.tobytes()
        assert ours.best.d2.tobytes() == theirs.best.d2.tobytes()
        assert ours.best.total.tobytes() == theirs.best.total.tobytes()


@pytest.mark.parametrize("num_miners", [1, 2, 3, 5])
@pytest.mark.parametrize("anchors", [ALL, ALL[::7]], ids=["all", "some"])
def test_any_number_of_miners_finds_what_one_engine_finds(
    num_miners: int, anchors: np.ndarray
) -> None:
    queries = queries_of(ROWS, anchors)
    search = spread(ROWS, num_miners, num_blocks=7, seed=num_miners)
    assert_same(search.search(anchors, queries), in_one(ROWS, anchors, queries))


def test_tasks_of_dead_miners_are_answered_once() -> None:
    queries = queries_of(ROWS, ALL)
    for seed in range(5):
        search = spread(ROWS, 3, num_blocks=6, deaths=4, seed=seed)
        assert_same(search.search(ALL, queries), in_one(ROWS, ALL, queries))


@settings(max_examples=40)
@given(
    gallery=galleries(),
    config=configs(),
    num_miners=st.sampled_from([1, 2, 3, 5]),
    num_blocks=st.integers(1, 6),
    deaths=st.integers(0, 2),
    seed=st.integers(0, 9),
)
def test_mining_is_the_same_however_it_is_shared_out(
    gallery: tuple[np.ndarray, list[int]],
    config: MinerConfig,
    num_miners: int,
    num_blocks: int,
    deaths: int,
    seed: int,
) -> None:
    x, identities = gallery
    plain = mine(x, identities, config=config, seed=seed)
    opener = open_spread(num_miners, num_blocks=num_blocks, deaths=deaths, seed=seed)
    mined = mine(x, identities, config=config, seed=seed, open_engine=opener)
    assert mined.table.equals(plain.table)
    assert mined.suspects.equals(plain.suspects)
    ours, theirs = mined.stats.to_dict(), plain.stats.to_dict()
    assert {**ours, "seconds": None} == {**theirs, "seconds": None}


def test_blocks_are_cut_between_identities() -> None:
    spans = cut_blocks(ROWS.first, 7)
    assert [span.begin for span in spans[1:]] == [span.end for span in spans[:-1]]
    assert (spans[0].begin, spans[-1].end) == (0, ROWS.ids.size)
    assert all(ROWS.first[span.begin] == span.begin for span in spans)
    assert len(spans) == 7


def test_an_identity_larger_than_a_block_stays_whole() -> None:
    first = np.array([0] * 50 + [50, 51, 52, 53])
    assert cut_blocks(first, 4) == [Span(0, 54)]
    first = np.array([0, 1] + [2] * 50 + [52, 53])
    assert cut_blocks(first, 9) == [Span(0, 2), Span(2, 54)]


def test_every_pair_of_blocks_with_anchors_is_one_task_larger_ones_first() -> None:
    spans = [Span(0, 10), Span(10, 20), Span(20, 40)]
    tasks = plan_tasks(spans, [10, 0, 20])
    pairs = {(task.left, task.right): task.comparisons for task in tasks}
    assert pairs == {(0, 0): 100, (0, 1): 100, (0, 2): 400, (1, 2): 200, (2, 2): 400}
    assert [task.comparisons for task in tasks] == [400, 400, 200, 100, 100]


@pytest.mark.parametrize("num_blocks", [5, 6, 7, 8, 24])
def test_tasks_that_follow_each_other_share_no_block(num_blocks: int) -> None:
    # Blocks differ a little, as identities make them.
    edges = np.cumsum([0, *(1000 + (7 * block) % 10 for block in range(num_blocks))]).tolist()
    spans = [Span(begin, end) for begin, end in zip(edges, edges[1:], strict=False)]
    tasks = plan_tasks(spans, [span.end - span.begin for span in spans])
    apart = [task for task in tasks if task.left != task.right]
    assert tasks[: len(apart)] == apart
    meetings = [left for left, right in zip(apart, apart[1:], strict=False) if met(left, right)]
    assert len(meetings) <= 2  # where one remainder ends and the next begins


def met(first: Task, second: Task) -> bool:
    return not set(first.blocks).isdisjoint(second.blocks)


@pytest.mark.parametrize("num_miners", [1, 2, 5, 64])
def test_there_are_enough_tasks_for_miners_to_end_together(num_miners: int) -> None:
    count = choose_num_blocks(10**7, num_miners)
    assert 12 * num_miners <= count * (count + 1) / 2 <= 15 * num_miners


def test_small_galleries_are_not_cut_into_crumbs() -> None:
    assert choose_num_blocks(500, 8) == choose_num_blocks(0, 1) == 1
    assert choose_num_blocks(3 * LEAST_BLOCK_ROWS, 8) == 3


def test_what_is_found_already_narrows_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[int] = []

    def counting(
        rows: Rows, searches: Searches, sort: int, which: np.ndarray, found: BestLists
    ) -> None:
        entries.append(found.row.size)
        merge(rows, searches, sort, which, found)

    monkeypatch.setattr("facequarry.miner.spread.spread.merge", counting)
    query = queries_of(ROWS, ALL)[:1]
    spread(ROWS, 1, num_blocks=6).search(ALL, query)
    assert sum(entries) < 0.7 * 6 * query[0].slot.size


def test_progress_is_said_with_rate_and_time_left(caplog: pytest.LogCaptureFixture) -> None:
    moments = itertools.count(step=4)
    spans = cut_blocks(ROWS.first, 4)
    whole = spread(ROWS, 2, num_blocks=4)
    search = SpreadSearch(ROWS, spans, whole._miners, clock=lambda: next(moments))
    with caplog.at_level("INFO", "facequarry.miner.core.pace"):
        search.search(ALL, queries_of(ROWS, ALL)[:1])
    assert len(caplog.messages) == 3  # ten tasks, four seconds each
    assert caplog.messages[0].startswith("search 37.5 % | 1.25e+03 comparisons/s | eta 20 s")


def test_nothing_to_search_is_no_task() -> None:
    none = np.empty(0, np.int64)
    (found,) = spread(ROWS, 2).search(none, [make_query(none, np.float32(0), np.float32(4))])
    assert found.best.num.size == 0
