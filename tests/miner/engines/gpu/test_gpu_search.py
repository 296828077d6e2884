from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import facequarry.miner.engines.opening
from facequarry.miner import MinerConfig, mine
from facequarry.miner.engines.gpu.gpu_engine import GpuSearch, Sizes, torch_steps, uses_gpu
from facequarry.miner.kernels.layout import FARTHEST, HASH, Int64Array, Query, Rows, make_query
from facequarry.miner.selection.rows import check_rows
from tests.miner.gpu_inputs import answers_of_cpu, assert_same, searches, usual_queries
from tests.miner.inputs import assert_equals, configs, galleries, on_circle, separated
from tests.miner.oracle import mine_slowly

sizes = st.builds(
    Sizes,
    tile_rows=st.sampled_from([1, 2, 3, 16]),
    tiles_per_group=st.integers(1, 4),
    searches=st.integers(1, 3),
    pairs=st.sampled_from([1, 5, 1000]),
    block_rows=st.none() | st.integers(1, 20),
    band_anchors=st.none() | st.integers(1, 5),
    measured_share=st.sampled_from([0.0, 1.0]),
)


@settings(max_examples=150)
@given(searches(), sizes)
def test_answers_are_the_cpu_engines_however_the_work_is_cut(
    asked: tuple[Rows, Int64Array, list[Query]], cut: Sizes
) -> None:
    rows, anchors, queries = asked
    found = GpuSearch(rows, "cpu", sizes=cut).search(anchors, queries)
    assert_same(found, answers_of_cpu(rows, anchors, queries), queries)


@settings(max_examples=50)
@given(galleries(), configs(), st.sampled_from([0, -7, 2**70]), sizes)
def test_mined_tables_follow_the_definitions(
    gallery: tuple[NDArray[np.float32], list[int]], config: MinerConfig, seed: int, cut: Sizes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            facequarry.miner.engines.opening,
            "ExactSearch",
            lambda rows, *_: GpuSearch(rows, "cpu", sizes=cut),
        )
        mined = mine(*gallery, config=config, seed=seed)
    assert_equals(mined, mine_slowly(*gallery, config, seed))


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0, 1e-4])
@pytest.mark.parametrize("dimension", [8, 128])
def test_larger_galleries_have_the_cpu_engines_answers(dimension: int, noise: float) -> None:
    rows, anchors, queries = usual_queries(100, 8, dimension, noise)
    cut = Sizes(tile_rows=16, tiles_per_group=8)
    found = GpuSearch(rows, "cpu", sizes=cut).search(anchors, queries)
    assert_same(found, answers_of_cpu(rows, anchors, queries), queries)


def test_collapsed_gallery_has_the_cpu_engines_answers() -> None:
    x = np.tile(on_circle([30]), (300, 1))
    x[::7] = on_circle([30.0001])
    rows = check_rows(x, np.repeat(np.arange(100), 3))
    anchors = np.arange(300)
    queries = [
        make_query(anchors, np.float32(0), np.float32(0), wanted=3),
        make_query(anchors, np.float32(1e-30), np.float32(1), wanted=2, distinct=True),
    ]
    found = GpuSearch(rows, "cpu", sizes=Sizes(tile_rows=16)).search(anchors, queries)
    assert_same(found, answers_of_cpu(rows, anchors, queries), queries)


def test_a_gallery_in_blocks_and_anchors_in_bands_give_the_same() -> None:
    rows, anchors, queries = usual_queries(60, 5, 16, 2.0)
    every = np.arange(anchors.size)
    state = np.random.default_rng(0).integers(0, 2**63, every.size).astype(np.uint64)
    queries += [
        make_query(every, np.float32(0.5), np.float32(1.5), wanted=3, distinct=True),
        make_query(every, np.float32(0), np.float32(1.8), wanted=2, order=FARTHEST),
        make_query(every, np.float32(1), np.float32(2), wanted=2, order=HASH, state=state),
        make_query(every, np.float32(0), np.float32(0.9), wanted=8, counted=True),
    ]
    expected = answers_of_cpu(rows, anchors, queries)
    for block_rows, band_anchors in ((None, 7), (64, None), (100, 50)):
        cut = Sizes(
            tile_rows=16, tiles_per_group=2, block_rows=block_rows, band_anchors=band_anchors
        )
        found = GpuSearch(rows, "cpu", sizes=cut).search(anchors, queries)
        assert_same(found, expected, queries)


class Watched:
    """The torch steps; counts the tiles that are measured and the products that are made."""

    def __init__(self) -> None:
        self.measured = 0
        self.widths: list[int] = []
        self.steps = torch_steps()._replace(scan=self._scan, measure=self._measure)

    def _scan(self, anchors: torch.Tensor, *others: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.widths.append(anchors.shape[1])
        return torch_steps().scan(anchors, *others)

    def _measure(self, *others: Any) -> torch.Tensor:
        d2 = torch_steps().measure(*others)
        self.measured += len(d2)
        return d2


def test_separated_faces_need_few_tiles_and_one_product() -> None:
    rows, anchors, queries = usual_queries(400, 5, 64, 0.5)
    watched = Watched()
    cut = Sizes(tile_rows=16, measured_share=0.1)
    GpuSearch(rows, "cpu", sizes=cut, steps=watched.steps).search(anchors, queries)
    assert watched.widths == [64]
    assert watched.measured < 2 * anchors.size


def test_crowded_bands_are_scanned_again_with_three_products() -> None:
    rows, anchors, queries = usual_queries(400, 5, 64, 20.0)
    measured = {}
    for share in (0.0, 1.0):
        watched = Watched()
        cut = Sizes(tile_rows=4, measured_share=share, band_anchors=1000)
        GpuSearch(rows, "cpu", sizes=cut, steps=watched.steps).search(anchors, queries)
        measured[share] = watched.measured
        # The second band starts where the first one had to end.
        assert watched.widths == ([64, 192, 192] if share == 0 else [64, 64])
    assert measured[0.0] < 0.8 * measured[1.0]


def test_memory_is_planned_for_what_is_given() -> None:
    rows, anchors, queries = usual_queries(100, 10, 32, 1.0)
    watched = Watched()
    small = GpuSearch(rows, "cpu", memory_gib=1e-3, steps=watched.steps)
    assert_same(small.search(anchors, queries), answers_of_cpu(rows, anchors, queries), queries)
    assert len(watched.widths) > 3


def test_running_out_of_memory_names_the_knob(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, anchors, queries = usual_queries(3, 2, 4, 1.0)

    def fail(*others: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 4 << 30))
    engine = GpuSearch(rows, "cpu", steps=torch_steps()._replace(scan=fail))
    with pytest.raises(MemoryError, match=re.escape("(1.0 of 4.0 GiB are free): lower miner.gpu")):
        engine.search(anchors, queries)


@pytest.mark.parametrize(
    ("device", "is_there", "expected"),
    [("cpu", True, False), ("auto", True, True), ("auto", False, False), ("cuda", True, True)],
)
def test_device_says_where_mining_runs(
    monkeypatch: pytest.MonkeyPatch, device: Any, is_there: bool, expected: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    assert uses_gpu(MinerConfig(device=device)) == expected


def test_a_gpu_that_is_asked_for_and_missing_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no GPU; set it to auto or cpu"):
        uses_gpu(MinerConfig(device="cuda"))


def test_ids_that_do_not_ascend_with_the_rows_break_ties() -> None:
    x, identities = separated(6, 4, 4, 0.0)
    rows = check_rows(x, identities, np.arange(24) * 1000)
    anchors = np.arange(24)
    queries: Sequence[Query] = [make_query(anchors, np.float32(0), np.float32(np.inf), wanted=5)]
    found = GpuSearch(rows, "cpu", sizes=Sizes(tile_rows=2)).search(anchors, queries)
    assert_same(found, answers_of_cpu(rows, anchors, queries), queries)


def test_nothing_asked_is_answered_with_nothing() -> None:
    rows, anchors, queries = usual_queries(3, 2, 4, 1.0)
    engine = GpuSearch(rows, "cpu")
    assert engine.search(anchors, []) == []
    nobody = np.zeros(0, np.int64)
    empty = make_query(nobody, np.float32(0), np.float32(1))
    assert engine.search(nobody, [empty])[0].best.num.size == 0
    assert engine.search(anchors, [empty])[0].best.num.size == 0
