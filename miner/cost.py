"""What a pass costs by engine, and from where on `auto` gives up the proof.

Thread-seconds at D = 128, fitted to `python -m benchmarks.approximate` on two cores of an AMD EPYC
9005 (docs/mining.md has the table). Other dimensions scale both sides alike, other processors
nearly so: only the ratio decides.
"""

from __future__ import annotations

import math
from typing import Literal

from miner.config import MinerConfig
from miner.gpu import uses_gpu

EXACT_S_PER_PRODUCT = 0.4e-9
"""One anchor against one row of the gallery."""

ROUTED_S_PER_ROW = 0.13e-6
"""Means of identities, their cells: what a row costs before any anchor is searched."""

ROUTED_S_PER_ANCHOR = 18e-6
"""Rows of the routed identities and of the sample, looked at and decided."""

ROUTED_S_PER_ROOT = 0.015e-6
"""Look-alikes of one identity, times sqrt(N)."""

FACES_PER_IDENTITY = 20
"""What is assumed: anchors of one identity share its look-alikes."""

FAISS_S_PER_ROW = 10e-6
"""Training and filling inverted lists."""

FAISS_S_PER_ANCHOR = 0.2e-3
"""Search with K up to 256, where the number of lists grows as sqrt(N)."""

WORTH_S = 10.0
"""Thread-seconds that an approximate pass must save, for what it finds is not all there is."""

Chosen = Literal["exact", "routed", "faiss"]


def choose_engine(config: MinerConfig, num_rows: int, num_anchors: int) -> Chosen:
    """Return the engine: what `config.engine` says, or what `auto` takes.

    auto stays exact until the approximate engine is forecast to save `WORTH_S` thread-seconds.
    That one is identity routing, or the FAISS index that faiss_index names (a flat one looks at
    every row, as the exact engine does, and more slowly: it never wins).

    Args:
        config: engine and faiss_index are read.
        num_rows: N.
        num_anchors: how many of them are mined.
    """
    if config.engine != "auto":
        return config.engine
    if uses_gpu(config):
        return "exact"  # routing and FAISS's lists are searched on the CPU
    other: Chosen = "routed" if config.faiss_index == "Flat" else "faiss"
    saved = seconds("exact", num_rows, num_anchors) - seconds(other, num_rows, num_anchors)
    return other if saved >= WORTH_S else "exact"


def seconds(engine: Chosen, num_rows: int, num_anchors: int) -> float:
    """Return the forecast thread-seconds of building and searching.

    Args:
        engine: which.
        num_rows: N.
        num_anchors: how many of them are mined.
    """
    match engine:
        case "exact":
            return EXACT_S_PER_PRODUCT * num_rows * num_anchors
        case "routed":
            identities = min(num_anchors, num_rows / FACES_PER_IDENTITY)
            look_alikes = ROUTED_S_PER_ROOT * math.sqrt(num_rows) * identities
            return ROUTED_S_PER_ROW * num_rows + ROUTED_S_PER_ANCHOR * num_anchors + look_alikes
        case "faiss":
            return FAISS_S_PER_ROW * num_rows + FAISS_S_PER_ANCHOR * num_anchors
