"""What sharing a search out over Ray actors brings, and what it costs.

All faces are anchors, with four positives each, on separated and on untrained embeddings. The ways
take turns in one process: two miner actors of one thread each, one of one thread, and the engine
in this process with one thread. Actors start before the clock runs; every way answers the same
searches and has to find the same.

    python -m benchmarks.actors
    python -m benchmarks.actors --faces 200000 --gallery separated
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import embedded_ray, show, take_turns
from benchmarks.galleries import GALLERIES
from benchmarks.mining import CONFIG
from facequarry.miner.core.distance import band
from facequarry.miner.core.search import Workers
from facequarry.miner.engines.exact import ExactSearch
from facequarry.miner.kernels.layout import Found, Int64Array, Query, Rows, make_query
from facequarry.miner.refresh.shared_executors import SharedExecutors
from facequarry.miner.selection.pairs import choose_anchors, pair_up
from facequarry.miner.selection.rows import check_rows
from facequarry.miner.spread.spread import SpreadSearch
from facequarry.trainer.batch.run_faces import FacesAt

MEASURED = ("separated", "untrained")
"""Galleries: as a trained network gives, and an untrained one."""

NUM_FACES = 120_000
"""Rows: sharing out costs the same however much there is to search, so fewer show less of it."""
REPEATS = 3
_NOWHERE = FacesAt(root=Path("absent"), cache=Path("absent"), snapshot=0)


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over the turns on one gallery, in seconds."""

    gallery: str
    num_faces: int
    two_s: float
    one_s: float
    here_s: float

    @property
    def speedup(self) -> float:
        """How many times faster two actors are than one."""
        return self.one_s / self.two_s

    @property
    def overhead(self) -> float:
        """One actor's seconds over those of the same search in this process."""
        return self.one_s / self.here_s


def rows(
    galleries: Sequence[str] = MEASURED, num_faces: int = NUM_FACES, repeats: int = REPEATS
) -> list[Row]:
    """Measure each gallery; Ray is started for it."""
    with embedded_ray():
        return [
            _measure(name, check_rows(*GALLERIES[name](num_faces)), repeats) for name in galleries
        ]


def _measure(name: str, gallery: Rows, repeats: int) -> Row:
    with Workers(1) as workers:
        anchors, queries = _searches(gallery, workers)
        with _actors(gallery, workers, 2) as two, _actors(gallery, workers, 1) as one:
            here = ExactSearch(gallery, workers)
            expected = here.search(anchors, queries)
            for search in (one, two):  # starts the actors, and compiles
                _check_same(search.search(anchors, queries), expected)
            seconds = take_turns(
                {
                    "two": lambda: two.search(anchors, queries),
                    "one": lambda: one.search(anchors, queries),
                    "here": lambda: here.search(anchors, queries),
                },
                repeats,
            )
    return Row(name, len(gallery.x), seconds["two"], seconds["one"], seconds["here"])


def _actors(
    gallery: Rows, workers: Workers, count: int
) -> contextlib.AbstractContextManager[SpreadSearch]:
    # Half a CPU each: three of them have to find a place on two, and they never work at a time.
    sharing = SharedExecutors(at=_NOWHERE, embed_actors=1, miner_actors=count, cpus=0.5)
    return sharing.open_engine(gallery, CONFIG, workers)


def _searches(gallery: Rows, workers: Workers) -> tuple[Int64Array, list[Query]]:
    """Return all anchors and what `mine` asks about them: each pair's band, each one's nearest."""
    anchors = choose_anchors(gallery, None, seed=0)
    pairs = pair_up(gallery, anchors, CONFIG, 0, workers)
    low, high = band(pairs.d2_ap, CONFIG.margin, None)
    every = np.arange(anchors.size)
    return anchors, [
        make_query(pairs.slot, low, high),
        make_query(every, np.float32(0), np.float32(np.inf)),
    ]


def _check_same(found: list[Found], expected: list[Found]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        if not np.array_equal(ours.best.row, theirs.best.row):
            raise RuntimeError("actors found other negatives than the engine in this process")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.actors")
    parser.add_argument(
        "--faces", type=int, default=NUM_FACES, help="rows of each gallery, all of them anchors"
    )
    parser.add_argument("--repeats", type=int, default=REPEATS, help="turns of each way")
    parser.add_argument("--gallery", choices=MEASURED, help="only this one")
    args = parser.parse_args()
    names = [args.gallery] if args.gallery else MEASURED
    torch.set_num_threads(1)
    show(
        "exact search by Ray actors of one thread, D = 128, all faces anchors, 4 positives, "
        f"medians of {args.repeats}",
        ("gallery", "faces", "two s", "one s", "here s", "one / two", "one / here"),
        [
            (
                row.gallery,
                f"{row.num_faces:,}",
                f"{row.two_s:.2f}",
                f"{row.one_s:.2f}",
                f"{row.here_s:.2f}",
                f"{row.speedup:.2f}",
                f"{row.overhead:.2f}",
            )
            for row in rows(names, args.faces, args.repeats)
        ],
    )


if __name__ == "__main__":
    main()
