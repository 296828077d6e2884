"""`mine` against sentence-transformers' `mine_hard_negatives` with FAISS: `make bench-peers`.

Both are given the same 20,000 rows and the same ordered pairs, serve one negative a pair, and take
turns, each in a process of its own; the peer has a virtual environment of its own as well, which is
made on the first run. Seconds are those of mining alone, memory is the growth over the imported
process with its rows loaded, compiled kernels included.

The peer's settings are those nearest to a band that it has: `absolute_margin = 0` puts the lower
edge at the positive; it has no upper edge, so the nearest one below the positive is taken ("top").
It looks for it among an anchor's nearest rows: 11 of them by itself, or as many as we say. It does
not know identities but may be told every positive of an anchor; then its edge is the farthest of
them. What it served is judged here, by distances and identities:

- in band: pairs served with a semi-hard negative of another identity, of all pairs
- of those there are: the same, of the pairs that have such a negative
- same identity: negatives that are another photo of the anchor's own person, of all served

    python -m benchmarks.peers [--faces 20000] [--turns 3] [--galleries confusable untrained]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import show
from benchmarks.galleries import GALLERIES, Gallery
from facequarry.miner.config import MinerConfig
from facequarry.miner.core.distance import band
from facequarry.miner.core.search import Workers
from facequarry.miner.kernels.hashed_d2 import d2_of_pairs
from facequarry.miner.selection.pairs import Pairs, choose_anchors, pair_up
from facequarry.miner.selection.rows import check_rows

NUM_FACES, TURNS = 20_000, 3
STATES = ("confusable", "untrained")
WIDE = 1000
"""Rows that the peer looks at where it is not left to itself."""

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
_VENV = _ROOT / ".venv-peers"
_REQUIREMENTS = _HERE / "requirements.txt"
_LIMIT_S = 900
_MIB = 1 << 20

Ints = NDArray[np.int64]
Triplets = dict[str, Ints]


@dataclass(frozen=True, slots=True)
class Way:
    """Someone's way to mine some pairs."""

    name: str
    command: Sequence[str | Path]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """What came of it."""

    way: str
    seconds: float
    grown_bytes: float
    in_band: float
    of_those_there_are: float
    same_identity: float


def ways(python: Path) -> dict[int | None, list[Way]]:
    """Return the ways to be compared by positives per anchor; ours comes first."""
    ours: list[str | Path] = [sys.executable, "-m", "benchmarks.peers.ours"]
    # Isolated: it must not see our folders, one of which has the name of a package that it needs.
    theirs: list[str | Path] = [python, "-I", _HERE / "theirs.py"]
    nearest = {"absolute_margin": 0.0, "num_negatives": 1, "sampling_strategy": "top"}
    return {
        1: [
            Way("mine", ours, ours_settings(1)),
            Way("theirs, top 11", theirs, nearest),
            Way(f"theirs, top {WIDE}", theirs, nearest | {"range_max": WIDE}),
        ],
        None: [
            Way("mine", ours, ours_settings(None)),
            Way("theirs, top 29", theirs, nearest),
        ],
    }


def ours_settings(positives: int | None) -> dict[str, Any]:
    """Return what a MinerConfig is made of."""
    chosen = {"positives": "random", "positives_per_anchor": positives}
    return {"engine": "exact"} | (chosen if positives else {})


def compare(gallery: Gallery, group: Sequence[Way], turns: int) -> list[Row]:
    """Let the ways mine the same pairs in turns, and judge what each served."""
    config = MinerConfig(**group[0].settings)
    pairs = pairs_of(gallery, config)
    measured: dict[str, list[dict[str, float]]] = {way.name: [] for way in group}
    served: dict[str, Triplets] = {}
    with tempfile.TemporaryDirectory() as name:
        faces = Path(name) / "faces.npz"
        np.savez(
            faces,
            rows=gallery[0],
            identities=gallery[1],
            anchors=pairs.anchors[pairs.slot],
            positives=pairs.positive,
        )
        _run(group[0], Path(name), faces)  # compiles the kernels that these faces need
        for _ in range(turns):
            for way in group:
                figures, served[way.name] = _run(way, Path(name), faces)
                measured[way.name].append(figures)
    judged = {way: judge(gallery, triplets, config.margin) for way, triplets in served.items()}
    most = judged[group[0].name][0]
    return [
        Row(
            way=way.name,
            seconds=median(figures["seconds"] for figures in measured[way.name]),
            grown_bytes=median(figures["bytes"] for figures in measured[way.name]),
            in_band=judged[way.name][0] / pairs.positive.size,
            of_those_there_are=judged[way.name][0] / most,
            same_identity=judged[way.name][1] / max(1, served[way.name]["negative"].size),
        )
        for way in group
    ]


def pairs_of(gallery: Gallery, config: MinerConfig) -> Pairs:
    """Return the pairs that `mine` looks at; rows are sorted, so that its rows are ours."""
    rows = check_rows(*gallery)
    with Workers(config.threads) as workers:
        return pair_up(rows, choose_anchors(rows, None, 0), config, 0, workers)


def judge(gallery: Gallery, triplets: Triplets, margin: float) -> tuple[int, int]:
    """Return how many triplets have a semi-hard negative, and in how many it is no negative."""
    x, identities = gallery
    anchor, negative = triplets["anchor"], triplets["negative"]
    d2_ap, d2_an = np.empty((2, anchor.size), np.float32)
    d2_of_pairs(x, anchor, triplets["positive"], d2_ap, 0, anchor.size)
    d2_of_pairs(x, anchor, negative, d2_an, 0, anchor.size)
    low, high = band(d2_ap, margin, None)
    is_same = identities[anchor] == identities[negative]
    return int(((low <= d2_an) & (d2_an <= high) & ~is_same).sum()), int(is_same.sum())


def _run(way: Way, folder: Path, faces: Path) -> tuple[dict[str, float], Triplets]:
    """Let a way mine once in a process of its own."""
    settings, triplets = folder / "settings.json", folder / "triplets.npz"
    settings.write_text(json.dumps(way.settings))
    # The peer starts where nothing of ours lies; our own module is found from the root.
    done = subprocess.run(
        [*way.command, settings, faces, triplets],
        cwd=_ROOT if "-m" in way.command else folder,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
    )
    if done.returncode:
        raise RuntimeError(f"{way.name} failed: {done.stderr[-1000:]}")
    with np.load(triplets) as found:
        return json.loads(done.stdout.splitlines()[-1]), dict(found)


def peer_python() -> Path:
    """Return the Python of the peers' virtual environment, made when it is absent or outdated."""
    python, stamp = _VENV / "bin" / "python", _VENV / ".installed"
    wanted = _REQUIREMENTS.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {_REQUIREMENTS.relative_to(_ROOT)} into {_VENV.name}; takes minutes")
        subprocess.run([sys.executable, "-m", "venv", _VENV], check=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--quiet"]
        # torch alone and first, as in the Makefile: an index may hold it with CUDA as well.
        torch = next(line for line in wanted.splitlines() if line.startswith("torch=="))
        subprocess.run([*install, torch], check=True)
        subprocess.run([*install, "-r", _REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    return python


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--faces", type=int, default=NUM_FACES)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--galleries", nargs="+", choices=GALLERIES, default=STATES)
    asked = parser.parse_args()
    groups = ways(peer_python())
    for state in asked.galleries:
        gallery = GALLERIES[state](asked.faces)
        for positives, group in groups.items():
            rows = compare(gallery, group, asked.turns)
            show(
                f"{state}, {asked.faces} x 128, all anchors, positives: {positives or 'all'}, "
                f"1 negative a pair, medians of {asked.turns}",
                ("way", "s", "/ mine", "in band", "of those there are", "same identity", "MiB"),
                [
                    (
                        row.way,
                        f"{row.seconds:.2f}",
                        f"{row.seconds / rows[0].seconds:.1f}",
                        f"{row.in_band:.1%}",
                        f"{row.of_those_there_are:.1%}",
                        f"{row.same_identity:.1%}",
                        f"{row.grown_bytes / _MIB:.0f}",
                    )
                    for row in rows
                ],
            )


if __name__ == "__main__":
    main()
