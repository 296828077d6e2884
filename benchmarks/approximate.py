"""Approximate ways against the exact engine: recall, time with building included, growth in N.

Recall is the share of the exact engine's semi-hard pairs for which a way finds a negative, over
all anchors mined. Seconds are those of a whole `mine` call less its own check of recall, medians;
the ways take turns. On a machine that others use, CPU seconds tell more than those of the clock.

    python -m benchmarks.approximate [--rows 1000000 --anchors 50000] [--engines routed]
    python -m benchmarks.approximate --growth    # routed, 100,000 rows to a million, all anchors
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import show, take_turns
from benchmarks.galleries import GALLERIES, Gallery
from facequarry.miner import Mined, MinerConfig, mine

NUM_FACES, NUM_ANCHORS = 60_000, 5_000
"""Small enough for `make bench`."""

REPEATS = 3

ENGINES = ("routed", "faiss")

PARTS = (4, 2, 1)
"""Parts of all rows, all of them anchors, that the growth exponent is fitted to."""

GROWING = (100_000, 200_000, 400_000, 1_000_000)
"""The rows with --growth."""

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


@dataclass(frozen=True, slots=True)
class _Run:
    """One call, both times without its recall check."""

    mined: Mined
    seconds: float
    cpu_s: float


def ways(num_rows: int) -> list[tuple[str, str, MinerConfig]]:
    """Return name, settings and configuration of each approximate way."""
    routed = [
        ("routed", f"R = {count}", replace(BASE, engine="routed", routed_identities=count))
        for count in (4, 8, 16, 32)
    ]
    inverted = [
        ("faiss", f"{config.faiss_index} nprobe {config.nprobe}", config)
        for config in (inverted_lists(num_rows, nprobe) for nprobe in (4, 16))
    ]
    return [*routed, *inverted]


def inverted_lists(num_rows: int, nprobe: int) -> MinerConfig:
    """Return the FAISS engine with as many lists as are usual for so many rows."""
    lists = 2 ** round(math.log2(2 * math.sqrt(num_rows)))
    return replace(
        BASE,
        engine="faiss",
        faiss_index=f"IVF{lists},Flat",
        nprobe=nprobe,
        train_rows=40 * lists,
        neighbours_limit=256,
    )


def compare(
    gallery: Gallery, num_anchors: int, repeats: int = 1, *, engines: Sequence[str] = ENGINES
) -> list[Row]:
    """Measure the exact engine, which comes first, and each way of these engines."""
    num_rows = len(gallery[1])
    compared = [("exact", "", replace(BASE, engine="exact"))]
    compared += [way for way in ways(num_rows) if way[0] in engines]
    runs = _in_turns(
        gallery, [replace(config, anchors=num_anchors) for _, _, config in compared], repeats
    )
    expected = _semi_hard(runs[0][-1].mined, num_rows)
    rows = []
    for (name, settings, _), done in zip(compared, runs, strict=True):
        pairs = _semi_hard(done[-1].mined, num_rows)
        recall = float(np.isin(expected, pairs).mean()) if expected.size else 1.0
        rows.append(Row(name, settings, recall, *_times(done)))
    return rows


def growth(
    kind: str, sizes: Sequence[int], config: MinerConfig, repeats: int = 1
) -> tuple[float, list[float]]:
    """Return the exponent of CPU seconds in N, all rows anchors, and the CPU seconds."""
    cpu_s = []
    for size in sizes:
        done = _in_turns(GALLERIES[kind](size), [config], repeats)[0]
        cpu_s.append(_times(done)[1])
    exponent = np.polyfit(np.log(sizes), np.log(cpu_s), 1)[0]
    return float(exponent), cpu_s


def _in_turns(gallery: Gallery, configs: Sequence[MinerConfig], repeats: int) -> list[list[_Run]]:
    """Mine with each configuration in turn; return their runs."""
    runs: list[list[_Run]] = [[] for _ in configs]

    def mine_once(place: int) -> None:
        runs[place].append(_timed(gallery, configs[place]))

    take_turns({str(place): partial(mine_once, place) for place in range(len(configs))}, repeats)
    return runs


def _times(runs: Sequence[_Run]) -> tuple[float, float]:
    """Return seconds by the clock and of CPU, medians."""
    return median(run.seconds for run in runs), median(run.cpu_s for run in runs)


def _timed(gallery: Gallery, config: MinerConfig) -> _Run:
    began, cpu_began = time.perf_counter(), time.process_time()
    mined = mine(*gallery, config=config)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    recall_s = mined.stats.seconds["recall"]
    return _Run(mined, seconds - recall_s, cpu_s * (1 - recall_s / seconds))


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
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--growth", action="store_true", help="only growth, to a million rows")
    asked = parser.parse_args(arguments)
    _compile(asked.gallery)
    if asked.growth:
        print(_growth_line(asked.gallery, GROWING, asked.repeats))
        return
    measured = compare(
        GALLERIES[asked.gallery](asked.rows), asked.anchors, asked.repeats, engines=asked.engines
    )
    exact = measured[0]
    show(
        f"approximate mining, {asked.gallery}, {asked.rows} x 128, {asked.anchors} anchors, "
        f"4 positives each, {torch.get_num_threads()} threads",
        ("way", "recall", "s", "CPU s", "x faster", "x less CPU"),
        [
            (
                f"{row.way} {row.settings}",
                f"{row.recall:.4f}",
                f"{row.seconds:.2f}",
                f"{row.cpu_s:.2f}",
                f"{exact.seconds / row.seconds:.1f}",
                f"{exact.cpu_s / row.cpu_s:.1f}",
            )
            for row in measured
        ],
        [_growth_line(asked.gallery, [asked.rows // part for part in PARTS], asked.repeats)],
    )


def _compile(kind: str) -> None:
    for _, _, config in ways(20_000):
        mine(*GALLERIES[kind](20_000), config=config)
    mine(*GALLERIES[kind](20_000), config=replace(BASE, engine="exact"))


def _growth_line(kind: str, sizes: Sequence[int], repeats: int) -> str:
    exponent, cpu_s = growth(kind, sizes, replace(BASE, engine="routed"), repeats)
    return (
        f"routed, {kind}, all rows anchors, {', '.join(f'{size:,}' for size in sizes)} rows: "
        f"{', '.join(f'{s:.2f}' for s in cpu_s)} CPU s, growth exponent {exponent:.2f}"
    )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
