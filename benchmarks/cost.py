"""The cost model behind `auto`: measure passes, fit `miner.cost.SECONDS_PER` to them, compare.

CPU seconds of whole `mine` calls, four positives an anchor, the better of two. An exact point is
the gallery on which it takes least, an approximate one that on which it takes most, so that `auto`
never saves less than it expects; coefficients are not negative and leave least relative error.

    python -m benchmarks.cost    # some four minutes; the machine has to be quiet
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.linear_model import LinearRegression

from benchmarks.approximate import BASE, inverted_lists
from benchmarks.common import show
from benchmarks.galleries import GALLERIES, Gallery
from benchmarks.mining import compile_kernels
from facequarry.miner import MinerConfig, mine
from facequarry.miner.engines.cost import SECONDS_PER, WORTH_S, Chosen, seconds, work
from facequarry.miner.engines.exact import INT8_FROM

KINDS = ("separated", "untrained")
REPEATS = 2

PASSES: Mapping[Chosen, Sequence[tuple[int, int]]] = {
    "exact": (
        (20_000, 20_000),
        (60_000, 60_000),
        (120_000, 120_000),
        (60_000, 5_000),
        (200_000, 10_000),
        (200_000, 30_000),
        (400_000, 5_000),
    ),
    "routed": (
        (60_000, 5_000),
        (60_000, 60_000),
        (200_000, 10_000),
        (200_000, 200_000),
        (400_000, 5_000),
        (400_000, 50_000),
    ),
    "faiss": ((60_000, 2_000), (60_000, 10_000), (200_000, 5_000)),
}
"""Rows and anchors that are measured; which passes are symmetric, `is_symmetric` says."""

_NPROBE = 16
_STEP = 1000
_MOST_ROWS = 10_000_000


@dataclass(frozen=True, slots=True)
class Point:
    """One pass."""

    engine: Chosen
    num_rows: int
    num_anchors: int
    cpu_s: Mapping[str, float]
    """By gallery."""

    @property
    def fitted_s(self) -> float:
        """CPU seconds that count: those that speak least for an approximate engine."""
        choose = min if self.engine == "exact" else max
        return choose(self.cpu_s.values())

    def work(self) -> dict[str, float]:
        """Return what the pass does."""
        return work(self.engine, self.num_rows, self.num_anchors)

    def forecast(self, seconds_per: Mapping[str, float]) -> float:
        """Return the model's thread-seconds."""
        return seconds(self.engine, self.num_rows, self.num_anchors, seconds_per)


def measure(passes: Mapping[Chosen, Sequence[tuple[int, int]]], repeats: int) -> list[Point]:
    """Measure passes on each kind of gallery."""
    cpu_s: dict[tuple[Chosen, int, int], dict[str, float]] = defaultdict(dict)
    for kind in KINDS:
        for num_rows in sorted({size for sizes in passes.values() for size, _ in sizes}):
            gallery = GALLERIES[kind](num_rows)
            for engine, sizes in passes.items():
                for num_anchors in (anchors for size, anchors in sizes if size == num_rows):
                    config = replace(_config(engine, num_rows), anchors=num_anchors)
                    cpu_s[engine, num_rows, num_anchors][kind] = min(
                        _cpu_seconds(gallery, config) for _ in range(repeats)
                    )
    return [Point(*key, cpu_s[key]) for key in sorted(cpu_s)]


def _config(engine: Chosen, num_rows: int) -> MinerConfig:
    if engine == "faiss":
        return inverted_lists(num_rows, _NPROBE)
    return replace(BASE, engine=engine)


def _cpu_seconds(gallery: Gallery, config: MinerConfig) -> float:
    began = time.process_time()
    mine(*gallery, config=config)
    return time.process_time() - began


def fit(points: Sequence[Point]) -> dict[str, float]:
    """Return seconds for each unit of work: none negative, least squares of relative errors."""
    found: dict[str, float] = {}
    for engine in {point.engine: None for point in points}:
        chosen = [point for point in points if point.engine == engine]
        units = list({unit: None for point in chosen for unit in point.work()})
        amounts = np.array([[point.work().get(unit, 0.0) for unit in units] for point in chosen])
        shares = amounts / np.array([point.fitted_s for point in chosen])[:, None]
        scale = shares.max(axis=0)  # of very different size otherwise
        model = LinearRegression(positive=True, fit_intercept=False)
        model.fit(shares / scale, np.ones(len(chosen)))
        found |= dict(zip(units, (model.coef_ / scale).tolist(), strict=True))
    return found


def crossover(seconds_per: Mapping[str, float], anchors: int | None) -> int | None:
    """Return from how many rows on `auto` takes routing; None where it never does.

    Args:
        seconds_per: seconds for each unit of work.
        anchors: how many there are; None takes all rows.
    """
    for num_rows in range(_STEP, _MOST_ROWS, _STEP):
        asked = num_rows if anchors is None else min(anchors, num_rows)
        exact, routed = (
            seconds(engine, num_rows, asked, seconds_per) for engine in ("exact", "routed")
        )
        if exact - routed >= WORTH_S:
            return num_rows
    return None


def _show(points: Sequence[Point], fitted: Mapping[str, float]) -> None:
    show(
        "seconds for each unit of work: miner.cost.SECONDS_PER and what fits here",
        ("unit", "in use", "fitted"),
        [(unit, f"{SECONDS_PER[unit]:.2g}", f"{fitted[unit]:.2g}") for unit in SECONDS_PER],
    )
    show(
        "CPU seconds of a pass, and thread-seconds forecast",
        ("engine", "N", "anchors", *KINDS, "in use", "fitted"),
        [
            (
                point.engine,
                f"{point.num_rows:,}",
                f"{point.num_anchors:,}",
                *(f"{point.cpu_s[kind]:.2f}" for kind in KINDS),
                f"{point.forecast(SECONDS_PER):.2f}",
                f"{point.forecast(fitted):.2f}",
            )
            for point in points
        ],
    )
    for anchors in (None, 50_000):
        who = "all" if anchors is None else f"{anchors:,}"
        in_use, by_fit = (_in_words(crossover(rates, anchors)) for rates in (SECONDS_PER, fitted))
        print(f"auto takes routing, {who} anchors: {in_use} in use, {by_fit} by the fit")


def _in_words(num_rows: int | None) -> str:
    return "never" if num_rows is None else f"from {num_rows:,} rows on"


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, fit and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.parse_args(arguments)
    compile_kernels()
    measure({engine: [(INT8_FROM, 100)] for engine in PASSES}, 1)  # compiles the others
    points = measure(PASSES, REPEATS)
    _show(points, fit(points))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
