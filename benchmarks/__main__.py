"""Run every benchmark and print its table: `make bench`.

python -m benchmarks
"""

import argparse

from benchmarks import (
    actors,
    approximate,
    budget,
    detectors,
    in_batch,
    ingest,
    loop,
    memory,
    mining,
    planning,
    shards,
    store,
)

argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__).parse_args()
for benchmark in (
    loop,
    mining,
    in_batch,
    approximate,
    budget,
    actors,
    store,
    shards,
    ingest,
    memory,
    planning,
    detectors,
):
    benchmark.main()
