"""The exact engine to a million rows, one step after the other: `make bench-full`.

Each step's result is a line of a file: a later call prints those it finds there and measures the
others. `--only` takes the steps whose names hold all these words, so that a part can run by itself.

- mine: the cases of `benchmarks.mining` and larger ones, once each
- equal: a million rows, 5,000 anchors, with and without int8 products: tables, suspects and counts
  must be the same; limits are set so that there are suspects, and every pair is served
- memory: what a process grows by that mines a million rows, all of them anchors

    python -m benchmarks.full [results.jsonl] [--list] [--only equal separated]
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import facequarry.miner
from benchmarks.common import seconds, show
from benchmarks.galleries import GALLERIES
from benchmarks.mining import (
    CASES,
    CONFIG,
    KINDS,
    MEMORY_ROWS,
    Case,
    Row,
    check_same,
    compile_kernels,
    growth,
    measure,
    memory,
    memory_line,
    mine_in_float32,
    show_rows,
)
from facequarry.miner import Mined, mine

LARGE = (
    *(Case(gallery=kind, num_rows=60_000, dimension=512, repeats=1) for kind in KINDS),
    *(Case(gallery=kind, num_rows=200_000, repeats=1) for kind in KINDS),
    *(Case(gallery=kind, num_rows=1_000_000, anchors=50_000, repeats=1) for kind in KINDS),
    *(Case(gallery=kind, num_rows=1_000_000, against_float32=False, repeats=1) for kind in KINDS),
)
GROWING = (60_000, 200_000, 1_000_000)
"""Rows, all of them anchors, that the growth exponent is fitted to."""

EQUAL_ROWS, EQUAL_ANCHORS = 1_000_000, 5_000

SUSPECTS = {"separated": (1.2, 0.58), "untrained": (1.2, 2.4), "collapsed": (0.0033, 0.0065)}
"""duplicate_floor and positive_cap that about one negative in a million and one pair in a hundred
are beyond."""

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Equal:
    """A gallery that was mined with and without int8 products, and gave the same."""

    gallery: str
    mine_s: float
    float32_s: float
    undecided: float
    """Of the pass with int8 products."""
    rows: int
    pairs: int
    semi_hard: int
    suspects: int


def check_equal(gallery: str, num_rows: int, num_anchors: int) -> Equal:
    """Mine with and without int8 products.

    Raises:
        RuntimeError: what was found differs.
    """
    made = GALLERIES[gallery](num_rows)
    floor, cap = SUSPECTS[gallery]
    config = replace(
        CONFIG,
        anchors=num_anchors,
        fallback=("easy",),
        duplicate_floor=floor,
        positive_cap=cap,
    )
    found: list[Mined] = []
    mine_s = seconds(lambda: found.append(mine(*made, config=config)))
    float32_s = seconds(lambda: found.append(mine_in_float32(made, config)))
    check_same(f"{gallery} {num_rows:,}", *found)
    ours = found[0]
    return Equal(
        gallery=gallery,
        mine_s=mine_s,
        float32_s=float32_s,
        undecided=ours.stats.undecided_share or 0.0,
        rows=ours.table.num_rows,
        pairs=ours.stats.pairs,
        semi_hard=ours.stats.semi_hard,
        suspects=ours.suspects.num_rows,
    )


def steps() -> dict[str, Callable[[], Line]]:
    """Return what there is to measure, by name, in the order of what it takes."""
    found: dict[str, Callable[[], Line]] = {}
    for case in CASES:
        found[f"mine {case.name}"] = functools.partial(_measure, case)
    for kind in KINDS:
        name = f"equal {kind} {EQUAL_ROWS:,} x 128, {EQUAL_ANCHORS:,} anchors"
        found[name] = functools.partial(_equal, kind)
    for case in LARGE:
        found[f"mine {case.name}"] = functools.partial(_measure, case)
    found[f"memory separated {MEMORY_ROWS:,} x 128, all anchors"] = _memory
    return found


def _measure(case: Case) -> Line:
    return asdict(measure(case))


def _equal(kind: str) -> Line:
    return asdict(check_equal(kind, EQUAL_ROWS, EQUAL_ANCHORS))


def _memory() -> Line:
    return {"bytes": memory(MEMORY_ROWS, None)}


def read_lines(kept: Path) -> dict[str, Line]:
    """Return what the file holds, by step; a line that was cut off is not there.

    Raises:
        ValueError: the file is not of this benchmark, or of other code.
    """
    found: dict[str, Line] = {}
    for line in kept.read_text().splitlines() if kept.exists() else ():
        try:
            read = json.loads(line)
        except json.JSONDecodeError:
            continue
        if not isinstance(read, dict) or read.keys() != {"step", "result", "sources"}:
            raise ValueError(f"{kept} holds other lines than this benchmark writes; move it away")
        if read["sources"] != digest_sources():
            raise ValueError(f"{kept} holds results of other sources than these; move it away")
        found[read["step"]] = read["result"]
    return found


@functools.cache
def digest_sources() -> str:
    """Return what tells the code that was measured from any other."""
    folders = Path(facequarry.miner.__file__).parent, Path(__file__).parent
    sources = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def run(chosen: Mapping[str, Callable[[], Line]], kept: Path) -> None:
    """Measure what the file does not hold yet, adding a line for each step."""
    known = read_lines(kept)
    for name, work in chosen.items():
        if name in known:
            continue
        print(f"measuring {name}", file=sys.stderr, flush=True)
        line = json.dumps({"step": name, "result": work(), "sources": digest_sources()})
        with kept.open("a") as file:
            file.write(f"\n{line}\n")  # the line before may have been cut off


def report(known: Mapping[str, Line]) -> None:
    """Print what was measured so far."""
    lines = {name: known[name] for name in steps() if name in known}
    rows = [
        Row(**line | {"case": Case(**line["case"])})
        for name, line in lines.items()
        if name.startswith("mine ")
    ]
    if rows:
        show_rows(rows)
    if equal := [Equal(**line) for name, line in lines.items() if name.startswith("equal ")]:
        _show_equal(equal)
    growing = [
        row
        for row in rows
        if row.case.gallery == "separated"
        and row.case.num_rows in GROWING
        and row.case.anchors is None
        and row.case.dimension == 128
    ]
    if len(growing) == len(GROWING):
        sizes = ", ".join(f"{size:,}" for size in GROWING)
        print(f"growth exponent in N, separated, all anchors, {sizes}: {growth(growing):.2f}")
    for name, line in lines.items():
        if name.startswith("memory "):
            print(memory_line(None, line["bytes"]))


def _show_equal(rows: Sequence[Equal]) -> None:
    show(
        f"{EQUAL_ROWS:,} x 128, {EQUAL_ANCHORS:,} anchors: the same with and without int8 products",
        ("gallery", "s", "without, s", "computed", "rows", "pairs", "semi-hard", "suspects"),
        [
            (
                row.gallery,
                f"{row.mine_s:.2f}",
                f"{row.float32_s:.2f}",
                f"{100 * row.undecided:.2f} %",
                f"{row.rows:,}",
                f"{row.pairs:,}",
                f"{row.semi_hard:,}",
                f"{row.suspects:,}",
            )
            for row in rows
        ],
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full", description=__doc__)
    parser.add_argument(
        "kept",
        nargs="?",
        type=Path,
        default="bench-full.jsonl",
        help="file of results; what it holds is not run again (default: %(default)s)",
    )
    parser.add_argument("--only", nargs="+", default=[], help="words that a step's name must hold")
    parser.add_argument("--list", action="store_true", help="print the steps' names and stop")
    asked = parser.parse_args(arguments)
    chosen = {
        name: work for name, work in steps().items() if all(word in name for word in asked.only)
    }
    if not chosen:
        parser.error(f"no step's name holds all of: {' '.join(asked.only)}; --list prints them")
    if asked.list:
        print("\n".join(chosen))
        return
    try:
        read_lines(asked.kept)
        compile_kernels()
        run(chosen, asked.kept)
        report(read_lines(asked.kept))
    except (RuntimeError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
