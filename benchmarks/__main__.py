"""Run every benchmark and print its table: `make bench`.

Each runs in a process of its own: what one sets, such as torch's threads, must not show in the
next.

    python -m benchmarks
"""

from __future__ import annotations

import argparse
import subprocess
import sys

BENCHMARKS = (
    "training.loop",
    "mining",
    "in_batch",
    "approximate",
    "budget",
    "actors",
    "faces.store",
    "faces.shards",
    "faces.ingest",
    "memory",
    "faces.planning",
    "faces.detectors",
)

_TIMEOUT_S = 1800  # the longest takes about six minutes


def main() -> None:
    """Run one after the other; the first that fails ends it with its exit code."""
    argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__).parse_args()
    for benchmark in BENCHMARKS:
        command = [sys.executable, "-m", f"benchmarks.{benchmark}"]
        try:
            done = subprocess.run(command, check=False, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            sys.exit(f"{benchmark} did not end in {_TIMEOUT_S} s; run it alone to see why")
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    main()
