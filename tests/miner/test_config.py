from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import tyro

from facequarry.miner import MinerConfig


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"margin": 0.0}, "margin must lie between 0 and 4"),
        ({"margin": 4.0}, "margin must lie between 0 and 4"),
        ({"margin": float("nan")}, "margin must lie between 0 and 4"),
        ({"engine": "annoy"}, "engine must be one of auto, exact, routed, faiss, got 'annoy'"),
        ({"positives": "easy"}, "positives must be one of all, random, hardest"),
        ({"negatives": "semihard"}, "negatives must be one of nearest, random, hardest"),
        ({"fallback": ("soft",)}, "fallback must be one of easy, hard, random"),
        ({"fallback": ("easy", "easy")}, "fallback names a rung twice"),
        ({"fallback": ("easy",), "negatives": "hardest"}, "hardest always serves"),
        ({"positives_per_anchor": 4}, "needs positives = random or hardest"),
        ({"positives_per_anchor": 0, "positives": "random"}, "positives_per_anchor must be at"),
        ({"negatives_per_pair": 0}, "negatives_per_pair must be at least 1, got 0"),
        ({"max_uses_as_negative": 0}, "max_uses_as_negative must be at least 1, got 0"),
        ({"device": "gpu"}, "device must be one of auto, cpu, cuda, got 'gpu'"),
        ({"gpu_memory_gib": 0.0}, "gpu_memory_gib must be above 0, got 0.0"),
        ({"anchors": 0}, "anchors must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"nprobe": 0}, "nprobe must be at least 1"),
        ({"nprobe": 4}, "nprobe is set, but Flat has no inverted lists; leave it out"),
        ({"neighbours": 0}, "neighbours must be at least 1"),
        ({"neighbours": 100, "neighbours_limit": 10}, "neighbours_limit must be at least"),
        ({"routed_identities": 0}, "routed_identities must be at least 1"),
        ({"train_rows": 0}, "train_rows must be at least 1"),
        ({"resolve": "yes"}, "resolve must be one of none, exact, got 'yes'"),
        ({"faiss_gpus": "all"}, "faiss_gpus must be one of none, replicas, shards"),
        ({"faiss_gpus": "shards", "neighbours_limit": 4096}, "FAISS returns 2048 neighbours at"),
        ({"duplicate_floor": -0.1}, "duplicate_floor must lie between 0 and 4"),
        ({"positive_cap": 5.0}, "positive_cap must lie between 0 and 4"),
    ],
)
def test_bad_option_is_refused_with_its_name(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MinerConfig(**options)


def test_tyro_parses_every_kind_of_field() -> None:
    config = tyro.cli(
        MinerConfig,
        args="--anchors 10 --fallback easy random --positive-cap 1.5 --negatives random".split(),
    )
    expected = MinerConfig(
        anchors=10, fallback=("easy", "random"), positive_cap=1.5, negatives="random"
    )
    assert config == expected


def test_config_is_imported_without_heavy_libraries() -> None:
    heavy = "{'torch', 'ray', 'faiss', 'numba', 'pyarrow', 'numpy'}"
    code = f"import sys, facequarry.miner.config; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == ""


def test_unknown_name_is_an_attribute_error() -> None:
    import facequarry.miner

    with pytest.raises(AttributeError, match="no attribute 'mining_of_gold'"):
        _ = facequarry.miner.mining_of_gold
