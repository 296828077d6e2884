"""One call of `mine` in a process of its own, as a peer's is; `benchmarks.peers` starts it.

python -m benchmarks.peers.ours SETTINGS.json FACES.npz TRIPLETS.npz
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.galleries import untrained
from benchmarks.memory import peak_bytes
from facequarry.miner import MinerConfig, mine

_WARM_UP_ROWS = 64


def main(settings: Path, faces: Path, triplets: Path) -> None:
    """Mine, write the triplets, print seconds and bytes as JSON."""
    config = MinerConfig(**json.loads(settings.read_text()))
    with np.load(faces) as given:
        rows, identities = given["rows"], given["identities"]
    before = peak_bytes()
    mine(*untrained(_WARM_UP_ROWS), config=config)
    began = time.perf_counter()
    table = mine(rows, identities, config=config).table
    seconds = time.perf_counter() - began
    grown = peak_bytes() - before
    names = ("anchor", "positive", "negative")
    np.savez(triplets, **{name: table[name].to_numpy() for name in names})
    print(json.dumps({"seconds": seconds, "bytes": grown}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
