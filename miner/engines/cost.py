"""What a pass costs by engine, and from where on `auto` gives up the proof.

A forecast is work times `SECONDS_PER` unit of it: thread-seconds at D = 128 of a whole `mine` call
with four positives an anchor, an approximate one's check of recall included. Other dimensions scale
all engines alike, other processors nearly so: only the ratio decides.

Fitted by `python -m benchmarks.cost`, exact passes to the gallery on which they take least,
approximate ones to that on which they take most: what `auto` expects to save is then saved on the
other galleries too, and no proof is given up for less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from facequarry.miner.config import MinerConfig
from facequarry.miner.engines.exact import is_symmetric
from facequarry.miner.engines.gpu.gpu_engine import uses_gpu

SECONDS_PER: Mapping[str, float] = MappingProxyType(
    {
        # One row multiplied with another: for an anchor, or for both of them at once.
        "one-sided product": 1.0e-9,
        "symmetric product": 1.6e-9,
        # Its pairs, and first tiles, in which every search still finds something.
        "exact anchor": 11e-6,
        # Means of identities, their cells, and the check of recall.
        "routed row": 2.5e-6,
        # Rows of the routed identities and of the sample, looked at and decided.
        "routed anchor": 5.8e-6,
        # Means of one identity's cells; their number grows as the root of N.
        "routed look-alike": 0.059e-6,
        # Training, filling inverted lists, and the check of recall.
        "faiss row": 21e-6,
        # Search with K up to 256, where the number of lists grows as the root of N.
        "faiss anchor": 0.26e-3,
    }
)

FACES_PER_IDENTITY = 20
"""What is assumed: anchors of one identity share its look-alikes."""

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


def seconds(
    engine: Chosen,
    num_rows: int,
    num_anchors: int,
    seconds_per: Mapping[str, float] = SECONDS_PER,
) -> float:
    """Return the forecast thread-seconds of a pass.

    Args:
        engine: which.
        num_rows: N.
        num_anchors: how many of them are mined.
        seconds_per: seconds of each unit of `work`.
    """
    done = work(engine, num_rows, num_anchors)
    return sum(seconds_per[unit] * amount for unit, amount in done.items())


def work(engine: Chosen, num_rows: int, num_anchors: int) -> dict[str, float]:
    """Return what a pass does, in the units of `SECONDS_PER`; arguments are those of `seconds`."""
    match engine:
        case "exact":
            products: dict[str, float] = {"one-sided product": num_rows * num_anchors}
            if is_symmetric(num_anchors, num_rows):
                products = {"symmetric product": num_rows**2 / 2}
            return products | {"exact anchor": num_anchors}
        case "routed":
            identities = min(num_anchors, num_rows / FACES_PER_IDENTITY)
            return {
                "routed row": num_rows,
                "routed anchor": num_anchors,
                "routed look-alike": math.sqrt(num_rows) * identities,
            }
        case "faiss":
            return {"faiss row": num_rows, "faiss anchor": num_anchors}
