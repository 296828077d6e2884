"""The exact engine against pytorch-metric-learning's in-batch miner, at the size of a large batch.

`TripletMarginMiner` lists every triplet and keeps the semi-hard ones; `mine` serves one negative to
each pair that has any. Both look at all anchors and all their positives. They take turns in one
process, twenty calls of ours to one of theirs; memory is the growth of the kernel's high water mark
over the imported process with the gallery loaded, each in a process of its own. Kernels are
compiled before either is measured.

Both have to say of the same pairs that they have a semi-hard negative. Their product rounds
otherwise than the definition, so that a pair is left out whose answer hangs on a negative within
`EDGE` of an edge of its band.

    python -m benchmarks.in_batch
    python -m benchmarks.in_batch --threads 1
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.miners import TripletMarginMiner

from benchmarks.common import show, take_turns
from benchmarks.galleries import GALLERIES, Gallery
from benchmarks.memory import peak_bytes
from facequarry.miner import MinerConfig, mine

NUM_FACES, REPEATS = 2000, 5
CALLS: Mapping[str, int] = {"ours": 20, "theirs": 1}
"""Calls that make a turn: one of ours is shorter than what else goes on in a machine."""
STATES = ("confusable", "untrained")
CONFIG = MinerConfig(engine="exact")
EDGE = 1e-5
"""Largest error of a float32 d2 on unit rows, amply."""

_MIB = 1 << 20

Marks = NDArray[np.bool_]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Anchors and positives; a pair may come more than once."""


@dataclass(frozen=True, slots=True)
class Row:
    """Both miners on one gallery: medians of seconds, and bytes."""

    gallery: str
    semi_hard: int
    """Pairs that have a semi-hard negative for certain; both say so."""
    on_edge: int
    """Pairs left out of the comparison."""
    ours_s: float
    theirs_s: float
    ours_bytes: int
    theirs_bytes: int


def ours(gallery: Gallery) -> Pairs:
    """Return the pairs that `mine` finds a semi-hard negative for."""
    table = mine(*gallery, config=CONFIG).table
    return table["anchor"].to_numpy(), table["positive"].to_numpy()


def theirs(gallery: Gallery) -> Pairs:
    """Return the pairs of pytorch-metric-learning's triplets."""
    listed = TripletMarginMiner(
        margin=CONFIG.margin,
        type_of_triplets="semihard",
        distance=LpDistance(p=2, power=2, normalize_embeddings=False),
    )
    anchors, positives, _ = listed(torch.from_numpy(gallery[0]), torch.from_numpy(gallery[1]))
    return anchors.numpy(), positives.numpy()


MINERS: Mapping[str, Callable[[Gallery], Pairs]] = {"ours": ours, "theirs": theirs}


def compare(name: str, num_faces: int = NUM_FACES, repeats: int = REPEATS) -> Row:
    """Check and measure both on one gallery."""
    gallery = GALLERIES[name](num_faces)
    semi_hard, on_edge = check_same(gallery, ours(gallery), theirs(gallery))
    turns = {way: functools.partial(_call, way, gallery) for way in MINERS}
    seconds = {way: s / CALLS[way] for way, s in take_turns(turns, repeats).items()}
    grown = {way: _in_a_process(way, name, num_faces) for way in MINERS}
    return Row(
        name, semi_hard, on_edge, seconds["ours"], seconds["theirs"], grown["ours"], grown["theirs"]
    )


def _call(way: str, gallery: Gallery) -> None:
    for _ in range(CALLS[way]):
        MINERS[way](gallery)


def check_same(gallery: Gallery, ours: Pairs, theirs: Pairs) -> tuple[int, int]:
    """Compare what both say with float64 distances.

    Returns:
        Pairs that have a semi-hard negative for certain, and those on an edge.

    Raises:
        RuntimeError: one of them differs on a pair that is not on an edge.
    """
    x, identities = gallery[0].astype(np.float64), gallery[1]
    norms2 = (x**2).sum(1)
    d2 = norms2[:, None] + norms2 - 2 * x @ x.T
    certain, possible = np.zeros(d2.shape, np.bool_), np.zeros(d2.shape, np.bool_)
    for anchor, away in enumerate(d2):
        is_own = identities == identities[anchor]
        others = np.sort(away[~is_own])
        is_own[anchor] = False
        low, high = away[is_own], away[is_own] + CONFIG.margin
        certain[anchor, is_own] = _is_any(others, low + EDGE, high - EDGE)
        possible[anchor, is_own] = _is_any(others, low - EDGE, high + EDGE)
    for name, pairs in (("mine", ours), ("pytorch-metric-learning", theirs)):
        said = np.zeros(d2.shape, np.bool_)
        said[pairs] = True
        wrong = int((certain & ~said).sum() + (said & ~possible).sum())
        if wrong:
            raise RuntimeError(f"{name} is wrong about {wrong} pairs that are on no edge")
    return int(certain.sum()), int((possible & ~certain).sum())


def _is_any(
    ascending: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> Marks:
    """Return whether a value lies between each low and high."""
    return np.searchsorted(ascending, low, "right") < np.searchsorted(ascending, high, "left")


def _in_a_process(way: str, name: str, num_faces: int) -> int:
    """Return by how many bytes a process of its own grows that mines once."""
    command = [sys.executable, "-m", "benchmarks.in_batch", "--only", way]
    command += ["--gallery", name, "--faces", str(num_faces)]
    command += ["--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{way} on {name} failed: {done.stderr[-500:]}")
    return int(done.stdout.split()[-1])


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_batch")
    parser.add_argument("--faces", type=int, default=NUM_FACES)
    parser.add_argument("--threads", type=int, help="of both; default: torch's")
    parser.add_argument("--only", choices=MINERS, help="mine once and print by how much it grows")
    parser.add_argument("--gallery", choices=GALLERIES, default=STATES[0], help="for --only")
    asked = parser.parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if asked.only:
        gallery = GALLERIES[asked.gallery](asked.faces)
        before = peak_bytes()
        MINERS[asked.only](gallery)
        print(peak_bytes() - before)
        return
    rows = [compare(name, asked.faces) for name in STATES]
    show(
        f"all triplets of {asked.faces} x 128, {torch.get_num_threads()} threads, medians of "
        f"{REPEATS}: mine against pytorch-metric-learning",
        (
            "gallery",
            "semi-hard",
            "on edge",
            "mine s",
            "PML s",
            "faster",
            "mine MiB",
            "PML MiB",
            "memory",
        ),
        [
            (
                row.gallery,
                str(row.semi_hard),
                str(row.on_edge),
                f"{row.ours_s:.3f}",
                f"{row.theirs_s:.2f}",
                f"{row.theirs_s / row.ours_s:.0f} x",
                f"{row.ours_bytes / _MIB:.0f}",
                f"{row.theirs_bytes / _MIB:.0f}",
                f"{row.ours_bytes / row.theirs_bytes:.3f}",
            )
            for row in rows
        ],
        ["Both say of the same pairs that they are semi-hard; those on an edge are left out."],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
