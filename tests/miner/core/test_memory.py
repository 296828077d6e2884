"""Memory that runs out anywhere in a pass ends in one sentence that says what to set."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner import Mined, MinerConfig, mine
from facequarry.miner.core.memory import OutOfMemory, explaining_memory
from facequarry.miner.engines.opening import OpenEngine
from facequarry.miner.refresh.executors import Executors
from tests.miner.inputs import separated
from tests.miner.small_run import SmallRun

TORCH = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 5368709120 bytes. Error code 12 (Cannot allocate memory)"
)
CONFIG = MinerConfig(engine="exact", threads=2)


def mined(config: MinerConfig = CONFIG, open_engine: OpenEngine | None = None) -> Mined:
    return mine(*separated(6, 4, 8, 1.0), config=config, open_engine=open_engine)


def failing(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "where",
    [
        "facequarry.miner.mining.check_rows",
        "facequarry.miner.mining.pair_up",
        "facequarry.miner.engines.exact.open_searches",
        "facequarry.miner.engines.exact.scan_tile",  # on a thread
        "facequarry.miner.selection.tables.concatenate",
    ],
)
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("Unable to allocate 5 GiB for an array"), " (Unable to allocate 5 GiB for "),
        (MemoryError(), " ran out of memory: "),
        (RuntimeError(TORCH), " (Unable to allocate 5 GiB): "),
    ],
    ids=["numpy", "bare", "torch"],
)
def test_the_sentence_says_what_was_mined_and_what_to_set(
    monkeypatch: pytest.MonkeyPatch, where: str, error: Exception, reason: str
) -> None:
    monkeypatch.setattr(where, failing(error))
    with pytest.raises(OutOfMemory) as caught:
        mined()
    sentence = str(caught.value)
    assert sentence.startswith("mining 24 x 8 embeddings with all of them as anchors ran out of")
    assert reason in sentence
    for knob in ("anchors", "positives_per_anchor", "negatives_per_pair"):
        assert f"miner.{knob}" in sentence
    assert sentence.endswith("as a run does with refresh.budget = steps")


def test_a_number_of_anchors_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facequarry.miner.mining.pair_up", failing(MemoryError()))
    with pytest.raises(OutOfMemory, match="with 7 of them as anchors"):
        mined(MinerConfig(anchors=7))


def test_an_allocation_that_really_fails_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    for allocate in (np.empty, torch.empty):
        monkeypatch.setattr(
            "facequarry.miner.mining.check_rows", lambda *_, make=allocate: make(1 << 50)
        )
        with pytest.raises(OutOfMemory, match=re.escape("(Unable to allocate ")):
            mined()


def test_a_sentence_that_knows_better_is_kept() -> None:
    better = OutOfMemory("the GPU is full: lower miner.gpu_memory_gib")
    with pytest.raises(OutOfMemory) as caught:
        mined(open_engine=failing(better))
    assert caught.value is better


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("can't allocate memory")])
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, explaining_memory("mining", "mine less"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", [RuntimeError(TORCH), torch.OutOfMemoryError("CUDA is full")])
def test_embedding_too_many_faces_names_the_knob_and_publishes_nothing(
    small: SmallRun, error: Exception
) -> None:
    with pytest.raises(OutOfMemory, match=r"embedding \d+ faces .* refresh.budget = steps"):
        small.mine(0, executors=Executors(embed=failing(error)))
    assert left(small.run) == []


def test_mining_that_runs_out_of_memory_publishes_nothing(
    small: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facequarry.miner.selection.tables.concatenate", failing(MemoryError()))
    with pytest.raises(OutOfMemory, match="ran out of memory: set or lower miner.anchors"):
        small.mine(0)
    assert left(small.run) == []


def left(run: RunDir) -> list[str]:
    """Return what there is of generations, staged ones included."""
    return [path.name for path in run.generations.iterdir()] if run.generations.exists() else []
