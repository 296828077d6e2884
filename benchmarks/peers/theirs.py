"""One call of sentence-transformers' `mine_hard_negatives` with FAISS; run by its own Python.

Faces stand for texts: an encoder without weights looks a text's row up. Identities are not among
what this script is given, because the function has no place for them: it knows a face's listed
positives and takes every other text for a possible negative.

    .venv-peers/bin/python -I benchmarks/peers/theirs.py SETTINGS.json FACES.npz TRIPLETS.npz
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# Not import statements: `datasets` is another package here than where this file is checked.
datasets = importlib.import_module("datasets")
util = importlib.import_module("sentence_transformers.util")
importlib.import_module("faiss")

_WARM_UP_ROWS = 64


class Encoder:
    """The part of a SentenceTransformer that the function asks for."""

    device = torch.device("cpu")

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = rows
        self.seconds = 0.0

    def encode_document(self, texts: list[str], **_: Any) -> NDArray[np.float32]:
        """Return the rows that the texts name."""
        began = time.perf_counter()
        found = self._rows[[int(text) for text in texts]]
        self.seconds += time.perf_counter() - began
        return found

    encode_query = encode_document

    def get_embedding_dimension(self) -> int:
        """Return D."""
        return int(self._rows.shape[1])

    def similarity_pairwise(self, left: Any, right: Any) -> torch.Tensor:
        """Return the cosine of each row of `left` with its row of `right`."""
        cosines: torch.Tensor = util.pairwise_cos_sim(left, right)
        return cosines


def peak_bytes() -> int:
    """Return this process's peak resident memory, bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def mined(
    rows: NDArray[np.float32],
    anchors: NDArray[np.int64],
    positives: NDArray[np.int64],
    settings: dict[str, Any],
) -> tuple[Any, float]:
    """Return their data set of triplets, and the seconds it took without encoding."""
    pairs = datasets.Dataset.from_dict(
        {"anchor": [str(row) for row in anchors], "positive": [str(row) for row in positives]}
    )
    corpus = [str(row) for row in range(len(rows))]
    encoder = Encoder(rows)
    began = time.perf_counter()
    triplets = util.mine_hard_negatives(
        pairs, encoder, corpus=corpus, use_faiss=True, verbose=False, **settings
    )
    return triplets, time.perf_counter() - began - encoder.seconds


def main(settings: Path, faces: Path, triplets: Path) -> None:
    """Mine, write the triplets, print seconds and bytes as JSON."""
    asked = json.loads(settings.read_text())
    with np.load(faces) as given:
        rows, anchors, positives = (given[name] for name in ("rows", "anchors", "positives"))
    before = peak_bytes()
    few = np.arange(_WARM_UP_ROWS)
    mined(rows[:_WARM_UP_ROWS], few, few[::-1], asked | {"range_max": 8})
    found, seconds = mined(rows, anchors, positives, asked)
    grown = peak_bytes() - before
    names = ("anchor", "positive", "negative")
    columns: dict[str, Any] = {
        name: np.array([int(text) for text in found[name]], np.int64) for name in names
    }
    np.savez(triplets, **columns)
    print(json.dumps({"seconds": seconds, "bytes": grown}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
