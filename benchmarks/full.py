"""The exact engine to a million rows, one step after the other: `make bench-full`.

Each step's result is a line of a file: a later call prints those it finds there and measures the
others. `--only` takes the steps whose names hold all these words, so that a part can run by itself.

- mine: the cases of `benchmarks.mining` and larger ones, once each
- memory: what a process grows by that mines a million rows, all of them anchors

    python -m benchmarks.full [results.jsonl] [--list] [--only mine separated]
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import facequarry.miner
from benchmarks.mining import (
    CASES,
    KINDS,
    MEMORY_ROWS,
    Case,
    Row,
    compile_kernels,
    growth,
    measure,
    memory,
    memory_line,
    show_rows,
)

LARGE = (
    *(Case(gallery=kind, num_rows=60_000, dimension=512, repeats=1) for kind in KINDS),
    *(Case(gallery=kind, num_rows=200_000, repeats=1) for kind in KINDS),
    *(Case(gallery=kind, num_rows=1_000_000, anchors=50_000, repeats=1) for kind in KINDS),
    *(Case(gallery=kind, num_rows=1_000_000, repeats=1) for kind in KINDS),
)
GROWING = (60_000, 200_000, 1_000_000)
"""Rows, all of them anchors, that the growth exponent is fitted to."""

Line = dict[str, Any]


def steps() -> dict[str, Callable[[], Line]]:
    """Return what there is to measure, by name, in the order of what it takes."""
    found: dict[str, Callable[[], Line]] = {}
    for case in CASES:
        found[f"mine {case.name}"] = functools.partial(_measure, case)
    for case in LARGE:
        found[f"mine {case.name}"] = functools.partial(_measure, case)
    found[f"memory separated {MEMORY_ROWS:,} x 128, all anchors"] = _memory
    return found


def _measure(case: Case) -> Line:
    return asdict(measure(case))


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
