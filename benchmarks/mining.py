"""How much the exact engine costs beyond the matrix product that it cannot do without.

Three things over the same gallery, with the same threads: `mine` with four positives per anchor, a
bare float32 `torch.mm` over the same tiles, and a FAISS flat search for 64 neighbours. They take
turns in one process, so that whatever else the machine does falls on all of them alike; medians
are shown. A separated gallery stands for a trained network (most bands are empty), an untrained one
has a negative in nearly every band.

    python -m benchmarks.mining
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from miner import MinerConfig, mine
from miner.exact import TILE_COLUMNS
from miner.search import Workers

NUM_FACES = 20_000
FACES_PER_IDENTITY = 20
DIMENSION = 128
REPEATS = 3
CONFIG = MinerConfig(engine="exact", positives="random", positives_per_anchor=4)

Gallery = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over `REPEATS` turns on one gallery, in seconds."""

    gallery: str
    semi_hard_share: float
    exact_s: float
    product_s: float
    faiss_flat_s: float

    @property
    def exact_per_product(self) -> float:
        """The exact engine's seconds over the bare product's."""
        return self.exact_s / self.product_s

    @property
    def exact_per_faiss(self) -> float:
        """The exact engine's seconds over the flat FAISS search's."""
        return self.exact_s / self.faiss_flat_s


def rows() -> list[Row]:
    """Measure both galleries."""
    mine(*make_gallery(0.5, num_faces=400), config=CONFIG)  # compiles the kernels
    return [
        _measure("separated", make_gallery(0.5)),
        _measure("untrained", make_gallery(10.0)),
    ]


def make_gallery(noise: float, num_faces: int = NUM_FACES) -> Gallery:
    """Return (N, D) float32 unit rows and (N,) identities.

    Args:
        noise: standard deviation around an identity's centre, whose components are standard
            normal: 0.5 separates identities well, 10 hides them.
        num_faces: N.
    """
    random = np.random.default_rng(0)
    identities = np.arange(num_faces) // FACES_PER_IDENTITY
    x = random.normal(size=(identities[-1] + 1, DIMENSION))[identities]
    x += noise * random.normal(size=x.shape)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(np.float32), identities


def _measure(name: str, gallery: Gallery) -> Row:
    x, identities = gallery
    index = faiss.IndexFlatL2(DIMENSION)
    index.add(x)
    faiss.omp_set_num_threads(torch.get_num_threads())
    turns: dict[str, list[float]] = {"exact": [], "product": [], "faiss": []}
    for _ in range(REPEATS):
        turns["exact"].append(_seconds(lambda: mine(x, identities, config=CONFIG)))
        turns["product"].append(_seconds(lambda: _multiply(x)))
        turns["faiss"].append(_seconds(lambda: index.search(x, 64)))
    stats = mine(x, identities, config=CONFIG).stats
    return Row(
        gallery=name,
        semi_hard_share=stats.semi_hard / stats.pairs,
        exact_s=median(turns["exact"]),
        product_s=median(turns["product"]),
        faiss_flat_s=median(turns["faiss"]),
    )


def _multiply(x: NDArray[np.float32]) -> None:
    """Compute every tile that the exact engine computes, shared out the same way; look at none."""
    faces = torch.from_numpy(x)

    def multiply(begin: int, end: int) -> None:
        buffer = torch.empty((end - begin) * TILE_COLUMNS)
        for column in range(0, len(x), TILE_COLUMNS):
            part = faces[column : column + TILE_COLUMNS]
            tile = buffer[: (end - begin) * len(part)].view(end - begin, len(part))
            torch.mm(band[begin:end], part.T, out=tile)

    with Workers(None) as workers:
        for anchor in range(0, len(x), 512):
            band = faces[anchor : anchor + 512]
            workers.each(len(band), multiply)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    table = Table(
        title=f"exact mining of {NUM_FACES} x {DIMENSION}, 4 positives per anchor, "
        f"{torch.get_num_threads()} threads, medians of {REPEATS}"
    )
    columns = (
        "gallery",
        "semi-hard",
        "mine s",
        "product s",
        "FAISS flat s",
        "x product",
        "x FAISS",
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "gallery" else "right")
    for row in rows():
        table.add_row(
            row.gallery,
            f"{100 * row.semi_hard_share:.1f} %",
            f"{row.exact_s:.2f}",
            f"{row.product_s:.2f}",
            f"{row.faiss_flat_s:.2f}",
            f"{row.exact_per_product:.2f}",
            f"{row.exact_per_faiss:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
