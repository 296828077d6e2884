"""Run every benchmark and print its table: `make bench`.

python -m benchmarks
"""

import argparse

from benchmarks import detectors, ingest, loop, memory, mining, planning, shards, store

argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__).parse_args()
for benchmark in (loop, mining, store, shards, ingest, memory, planning, detectors):
    benchmark.main()
