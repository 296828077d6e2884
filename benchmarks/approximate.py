"""Approximate ways against the exact engine: recall, time with building included, growth in N.

Recall is the share of the exact engine's semi-hard pairs for which a way finds a negative, over
all anchors mined. Seconds are those of a whole `mine` call less its own check of recall. On a
machine that others use, CPU seconds tell more than those of the clock.

    python -m benchmarks.approximate [--rows 1000000 --anchors 50000] [--gallery untrained]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import show
from benchmarks.galleries import GALLERIES, Gallery
from miner import Mined, MinerConfig, mine

NUM_FACES, NUM_ANCHORS = 60_000, 5_000
"""Small enough for `make bench`."""

GROWTH = (4, 2, 1)
"""Parts of all rows, all of them anchors, that the growth exponent is fitted to."""

BASE = MinerConfig(positives="random", positives_per_anchor=4)

Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """One way on one gallery."""

    way: str
    settings: str
    recall: float
    seconds: float
    cpu_s: float


def ways(num_rows: int) -> list[tuple[str, str, MinerConfig]]:
    """Return name, settings and configuration of each approximate way."""
    lists = 2 ** round(math.log2(2 * math.sqrt(num_rows)))
    routed = [
        ("routed", f"R = {count}", replace(BASE, engine="routed", routed_identities=count))
        for count in (4, 8, 16, 32)
    ]
    inverted = [
        (
            "faiss",
            f"IVF{lists},Flat nprobe {nprobe}",
            replace(
                BASE,
                engine="faiss",
                faiss_index=f"IVF{lists},Flat",
                nprobe=nprobe,
                train_rows=40 * lists,
                neighbours_limit=256,
            ),
        )
        for nprobe in (4, 16)
    ]
    return [*routed, *inverted]


def compare(gallery: Gallery, num_anchors: int) -> list[Row]:
    """Measure the exact engine and each way once."""
    identities = gallery[1]
    exact, exact_s, exact_cpu_s = _timed(
        gallery, replace(BASE, engine="exact", anchors=num_anchors)
    )
    expected = _semi_hard(exact, len(identities))
    rows = [Row("exact", "", 1.0, exact_s, exact_cpu_s)]
    for name, settings, config in ways(len(identities)):
        found, seconds, cpu_s = _timed(gallery, replace(config, anchors=num_anchors))
        pairs = _semi_hard(found, len(identities))
        recall = float(np.isin(expected, pairs).mean()) if expected.size else 1.0
        rows.append(Row(name, settings, recall, seconds, cpu_s))
    return rows


def growth(kind: str, num_rows: int, config: MinerConfig) -> tuple[float, list[float]]:
    """Return the exponent of CPU seconds in N, all rows anchors, and the CPU seconds."""
    sizes = [num_rows // part for part in GROWTH]
    cpu_s = [_timed(GALLERIES[kind](size), config)[2] for size in sizes]
    exponent = np.polyfit(np.log(sizes), np.log(cpu_s), 1)[0]
    return float(exponent), cpu_s


def _timed(gallery: Gallery, config: MinerConfig) -> tuple[Mined, float, float]:
    """Return what was mined, and seconds by the clock and of CPU, both without the recall check."""
    began, cpu_began = time.perf_counter(), time.process_time()
    mined = mine(*gallery, config=config)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    recall_s = mined.stats.seconds["recall"]
    return mined, seconds - recall_s, cpu_s * (1 - recall_s / seconds)


def _semi_hard(mined: Mined, num_rows: int) -> Pairs:
    """Return (S,) one number for each pair that has a semi-hard negative."""
    columns = mined.table.select(["anchor", "positive"])
    pairs: Pairs = columns["anchor"].to_numpy() * num_rows + columns["positive"].to_numpy()
    return pairs


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.approximate", description=__doc__)
    parser.add_argument("--rows", type=int, default=NUM_FACES)
    parser.add_argument("--anchors", type=int, default=NUM_ANCHORS)
    parser.add_argument("--gallery", choices=GALLERIES, default="confusable")
    asked = parser.parse_args(arguments)
    for _, _, config in ways(20_000):  # compiles the kernels
        mine(*GALLERIES[asked.gallery](20_000), config=config)
    mine(*GALLERIES[asked.gallery](20_000), config=replace(BASE, engine="exact"))
    measured = compare(GALLERIES[asked.gallery](asked.rows), asked.anchors)
    exact = measured[0]
    table = [
        (
            f"{row.way} {row.settings}",
            f"{row.recall:.4f}",
            f"{row.seconds:.2f}",
            f"{row.cpu_s:.2f}",
            f"{exact.seconds / row.seconds:.1f}",
            f"{exact.cpu_s / row.cpu_s:.1f}",
        )
        for row in measured
    ]
    exponent, cpu_s = growth(asked.gallery, asked.rows, replace(BASE, engine="routed"))
    show(
        f"approximate mining, {asked.gallery}, {asked.rows} x 128, {asked.anchors} anchors, "
        f"4 positives each, {torch.get_num_threads()} threads",
        ("way", "recall", "s", "CPU s", "x faster", "x less CPU"),
        table,
        [
            f"routed, all rows anchors, N / 4, N / 2 and N: {', '.join(f'{s:.2f}' for s in cpu_s)} "
            f"CPU s, growth exponent {exponent:.2f}"
        ],
    )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
