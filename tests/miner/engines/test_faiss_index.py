"""What is asked of FAISS beyond a CPU index: GPUs, by a module that stands in, and memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from facequarry.miner import MinerConfig, mine
from facequarry.miner.engines.faiss_index import build_index, to_gpus
from facequarry.miner.selection.rows import check_rows
from tests.miner.inputs import separated


class FakeGpuFaiss:
    """faiss-gpu as far as it is used: FAISS itself, and an index that says where it went."""

    def __init__(self, num_gpus: int) -> None:
        self.num_gpus = num_gpus
        self.moved: list[bool] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(faiss, name)

    def get_num_gpus(self) -> int:
        return self.num_gpus

    def GpuMultipleClonerOptions(self) -> SimpleNamespace:
        return SimpleNamespace(shard=False)

    def index_cpu_to_all_gpus(self, index: Any, *, co: Any) -> Any:
        self.moved.append(co.shard)
        return index


@pytest.mark.parametrize(("how", "shard"), [("replicas", False), ("shards", True)])
def test_index_is_moved_to_all_gpus(how: Any, shard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeGpuFaiss(2)
    monkeypatch.setattr("facequarry.miner.engines.approximate.import_faiss", lambda: fake)
    x, identities = separated(20, 5, 16, 1.0)
    stats = mine(x, identities, config=MinerConfig(engine="faiss", faiss_gpus=how)).stats
    assert fake.moved == [shard]
    assert stats.recall_vs_exact == 1.0
    assert stats.band_empty == 0  # nothing is proven with distances from a GPU


def test_index_stays_where_it_is_unless_told_otherwise() -> None:
    fake = FakeGpuFaiss(2)
    index = object()
    assert to_gpus(fake, index, "none") is index
    assert not fake.moved


def test_no_gpu_is_one_sentence() -> None:
    x, identities = separated(20, 5, 16, 1.0)
    with pytest.raises(ValueError, match="faiss_gpus is shards, and FAISS sees no GPU here"):
        mine(x, identities, config=MinerConfig(engine="faiss", faiss_gpus="shards"))


def test_full_gpu_names_the_knob() -> None:
    fake: Any = FakeGpuFaiss(1)

    def fail(index: Any, *, co: Any) -> Any:
        raise RuntimeError("Error: 'err == cudaSuccess' failed: out of memory")

    fake.index_cpu_to_all_gpus = fail
    with pytest.raises(MemoryError, match="set faiss_gpus = shards, or take a compressed"):
        to_gpus(fake, object(), "replicas")


def test_full_memory_names_the_knobs() -> None:
    class Full:
        is_trained = True

        def add(self, x: Any) -> None:
            raise MemoryError("std::bad_alloc")

    module = SimpleNamespace(
        METRIC_L2=faiss.METRIC_L2,
        index_factory=lambda *_: Full(),
        try_extract_index_ivf=lambda _: None,
    )
    rows = check_rows(*separated(4, 4, 8, 1.0))
    with pytest.raises(MemoryError, match="faiss_index = 'Flat'; take a compressed one"):
        build_index(module, rows, MinerConfig(engine="faiss"), 0)


def test_training_takes_the_number_of_rows_it_is_told() -> None:
    seen: list[int] = []

    class Index:
        is_trained = False

        def train(self, x: np.ndarray[Any, Any]) -> None:
            seen.append(len(x))

        def add(self, x: np.ndarray[Any, Any]) -> None:
            seen.append(len(x))

    module = SimpleNamespace(
        METRIC_L2=faiss.METRIC_L2,
        index_factory=lambda *_: Index(),
        try_extract_index_ivf=lambda _: None,
    )
    rows = check_rows(*separated(10, 4, 8, 1.0))
    build_index(module, rows, MinerConfig(engine="faiss", train_rows=7), 0)
    build_index(module, rows, MinerConfig(engine="faiss"), 0)
    assert seen == [7, 40, 40, 40]
