"""Run every benchmark and print its table: `make bench`.

python -m benchmarks
"""

from benchmarks import detectors, ingest, memory, mining, planning, shards, store

for benchmark in (mining, store, shards, ingest, memory, planning, detectors):
    benchmark.main()
