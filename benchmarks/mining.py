"""What the exact engine takes, held against what it cannot do without and what others do.

`mine` with four positives per anchor takes turns with itself when int8 products are forbidden (both
must find the same), with the bare float32 product of every anchor with every row (over the same
tiles, a sixteenth of them, times sixteen), by `torch.mm` and by whatever is fastest here, and with
a flat FAISS search for 64 neighbours of each anchor (a sixteenth of them). Speeds are ratios of
whole calls. Useful GFLOP/s count 2 x anchors x N x D, whatever symmetry saves.

    python -m benchmarks.mining    # part of make bench; benchmarks.full goes to a million rows
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import show, take_turns
from benchmarks.galleries import GALLERIES, Gallery
from benchmarks.memory import peak_bytes, resident_bytes
from facequarry.miner import Mined, MinerConfig, mine
from facequarry.miner.core.search import Workers
from facequarry.miner.engines import exact
from facequarry.miner.engines.exact import TILE_COLUMNS, TILE_ROWS
from facequarry.miner.engines.multiply import Multiply, blas_products, float32_products

CONFIG = MinerConfig(engine="exact", positives="random", positives_per_anchor=4)
REPEATS = 3
_SHARE = 16
_FAISS_K = 64
MEMORY_ROWS = 1_000_000
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One gallery and how much of it is mined."""

    gallery: str
    num_rows: int
    dimension: int = 128
    anchors: int | None = None
    """None mines all rows as anchors."""
    against_float32: bool = True
    """Also without int8 products."""
    against_faiss: bool = False
    repeats: int = REPEATS

    @property
    def name(self) -> str:
        """Say which it is, in words."""
        anchors = "all" if self.anchors is None else f"{self.anchors:,}"
        return f"{self.gallery} {self.num_rows:,} x {self.dimension}, {anchors} anchors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What was measured of a case; seconds are medians."""

    case: Case
    semi_hard: float
    mine_s: float
    product_s: float
    """By `torch.mm`."""
    fastest_s: float
    """The same products as the engine multiplies float32."""
    float32_s: float | None
    faiss_s: float | None
    symmetric: bool
    undecided: float

    @property
    def gflops(self) -> float:
        """Useful GFLOP/s of the whole call."""
        anchors = self.case.anchors or self.case.num_rows
        return 2e-9 * anchors * self.case.num_rows * self.case.dimension / self.mine_s


KINDS = ("separated", "untrained", "collapsed")
CASES = (
    *(Case(gallery=kind, num_rows=60_000, against_faiss=True) for kind in KINDS),
    *(Case(gallery=kind, num_rows=20_000, dimension=512) for kind in KINDS),
    *(Case(gallery=kind, num_rows=200_000, anchors=10_000) for kind in KINDS),
    # Where a trained network still takes some people for others, and int8 products bring most.
    Case(gallery="confusable", num_rows=60_000),
    Case(gallery="confusable", num_rows=200_000, anchors=10_000),
)
GROWTH = tuple(
    Case(gallery="separated", num_rows=rows, against_float32=False) for rows in (20_000, 35_000)
)


def measure(case: Case) -> Row:
    """Measure one case."""
    x, identities = GALLERIES[case.gallery](case.num_rows, dimension=case.dimension)
    config = replace(CONFIG, anchors=case.anchors)
    anchors = x[:: max(1, case.num_rows // (case.anchors or case.num_rows))]
    part = np.ascontiguousarray(anchors[: max(1, len(anchors) // _SHARE)])
    mined: dict[str, Mined] = {}
    ways: dict[str, Callable[[], object]] = {
        "mine": lambda: mined.update(mine=mine(x, identities, config=config)),
        "product": lambda: multiply(part, x, lambda dimension: blas_products),
        "fastest": lambda: multiply(part, x, float32_products),
    }
    if case.against_float32:
        gallery = x, identities
        ways["float32"] = lambda: mined.update(float32=mine_in_float32(gallery, config))
    if case.against_faiss:
        import faiss

        index = faiss.IndexFlatL2(case.dimension)
        index.add(x)
        faiss.omp_set_num_threads(torch.get_num_threads())
        ways["faiss"] = lambda: index.search(part, _FAISS_K)
    times = take_turns(ways, case.repeats)
    if case.against_float32:
        check_same(case.name, mined["mine"], mined["float32"])
    stats = mined["mine"].stats
    scale = len(anchors) / len(part)
    return Row(
        case=case,
        semi_hard=stats.semi_hard / stats.pairs,
        mine_s=times["mine"],
        product_s=times["product"] * scale,
        fastest_s=times["fastest"] * scale,
        float32_s=times.get("float32"),
        faiss_s=times["faiss"] * scale if case.against_faiss else None,
        symmetric=stats.symmetric,
        undecided=stats.undecided_share or 0.0,
    )


def mine_in_float32(gallery: Gallery, config: MinerConfig) -> Mined:
    """Mine as where int8 products do not pay."""
    with mock.patch.object(exact, "int8_pays", lambda dimension: False):
        return mine(*gallery, config=config)


def check_same(name: str, ours: Mined, in_float32: Mined) -> None:
    """Compare what was found with and without int8 products.

    Raises:
        RuntimeError: it differs.
    """
    differ = [
        part
        for part in ("table", "suspects", "stats")
        if getattr(ours, part) != getattr(in_float32, part)
    ]
    if differ:
        raise RuntimeError(f"{name}: {', '.join(differ)} differ with and without int8 products")


def multiply(
    anchors: NDArray[np.float32], x: NDArray[np.float32], choose: Callable[[int], Multiply]
) -> None:
    """Multiply some anchors with all rows in the exact engine's tiles; look at nothing.

    Args:
        anchors: (A, D).
        x: (N, D).
        choose: says, on the thread that multiplies, by what for D dimensions.
    """
    left, right = torch.from_numpy(anchors), torch.from_numpy(x)

    def work(begin: int, end: int) -> None:
        room = torch.empty(TILE_ROWS * TILE_COLUMNS)
        products = choose(x.shape[1])
        for column in range(0, len(right), TILE_COLUMNS):
            part = right[column : column + TILE_COLUMNS]
            for row in range(begin, end, TILE_ROWS):
                products(left[row : min(row + TILE_ROWS, end)], part, room)

    with Workers(None) as workers:
        workers.each(len(left), work)


def growth(rows: Sequence[Row]) -> float:
    """Return the exponent of seconds in N over cases with all rows as anchors."""
    sizes = np.log([row.case.num_rows for row in rows])
    return float(np.polyfit(sizes, np.log([row.mine_s for row in rows]), 1)[0])


def memory(num_rows: int, anchors: int | None) -> int:
    """Return by how many bytes a process grows that reads a gallery and mines it."""
    with tempfile.TemporaryDirectory() as folder:
        x, identities = GALLERIES["separated"](num_rows)
        np.save(f"{folder}/x.npy", x)
        np.save(f"{folder}/identities.npy", identities)
        command = [sys.executable, "-m", "benchmarks.mining", "--grow", folder]
        command += [] if anchors is None else ["--anchors", str(anchors)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=7200)
        if done.returncode:
            raise RuntimeError(f"mining {num_rows} rows failed: {done.stderr[-500:]}")
    return int(done.stdout.splitlines()[-1])


def _grow(folder: str, anchors: int | None) -> int:
    """Read and mine in this process; return by how much its resident memory rose at most."""
    compile_kernels()
    before = resident_bytes()
    x, identities = np.load(f"{folder}/x.npy"), np.load(f"{folder}/identities.npy")
    mine(x, identities, config=replace(CONFIG, anchors=anchors))
    return peak_bytes() - before


def compile_kernels() -> None:
    """Mine a little, so that nothing is compiled while something is timed."""
    for kind in ("separated", "untrained"):  # integer products, and those after falling back
        mine(*GALLERIES[kind](exact.INT8_FROM), config=CONFIG)


def _name(case: Case) -> str:
    return case.gallery if case.dimension == 128 else f"{case.gallery}, D = {case.dimension}"


def show_rows(rows: Sequence[Row]) -> None:
    """Print a table of what was measured."""
    show(
        f"exact mining, 4 positives an anchor, {torch.get_num_threads()} threads, D = 128 but "
        "where named",
        (
            "gallery",
            "N",
            "anchors",
            "semi-hard",
            "mine s",
            "GFLOP/s",
            "÷ torch.mm",
            "÷ fastest",
            "÷ float32",
            "÷ FAISS",
            "computed",
        ),
        [
            (
                _name(row.case),
                f"{row.case.num_rows:,}",
                "all" if row.case.anchors is None else f"{row.case.anchors:,}",
                f"{100 * row.semi_hard:.0f} %",
                f"{row.mine_s:.2f}",
                f"{row.gflops:.0f}" + ("*" if row.symmetric else ""),
                f"{row.product_s / row.mine_s:.2f}",
                f"{row.fastest_s / row.mine_s:.2f}",
                "" if row.float32_s is None else f"{row.float32_s / row.mine_s:.2f}",
                "" if row.faiss_s is None else f"{row.faiss_s / row.mine_s:.1f}",
                f"{100 * row.undecided:.2f} %",
            )
            for row in rows
        ],
        [
            "÷ product, ÷ float32, ÷ FAISS: speed over that of the bare float32 product, of this "
            f"engine without int8 products, and of a flat FAISS search, k = {_FAISS_K}",
            "with and without int8 products (÷ float32, at least 0.77 is asked) tables, suspects "
            "and counts were the same",
            "*: each product served both its rows as anchors. computed: share of (anchor, row) "
            "whose distance was computed",
        ],
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mining", description=__doc__)
    parser.add_argument("--grow", help="mine this folder's arrays and print the memory it took")
    parser.add_argument("--anchors", type=int, help="with --grow")
    asked = parser.parse_args(arguments)
    if asked.grow is not None:
        print(_grow(asked.grow, asked.anchors))
        return
    compile_kernels()
    rows = [measure(case) for case in CASES]
    show_rows(rows)
    exponent = growth([*map(measure, GROWTH), rows[0]])
    print(f"growth exponent in N, separated, all anchors, 20,000 to 60,000: {exponent:.2f}")
    print(memory_line(10_000, memory(MEMORY_ROWS, 10_000)))


def memory_line(anchors: int | None, grown: int) -> str:
    """Say how much a process grew that mined `MEMORY_ROWS` rows."""
    who = "all" if anchors is None else f"{anchors:,}"
    embeddings = 4 * 128 * MEMORY_ROWS
    return (
        f"memory, {MEMORY_ROWS:,} x 128, {who} anchors: the process grows by "
        f"{grown / _MIB:,.0f} MiB, {embeddings / _MIB:,.0f} of them the embeddings"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
