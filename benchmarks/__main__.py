"""Run every benchmark and print its table: `make bench`.

python -m benchmarks
"""

from benchmarks import mining, store

for benchmark in (mining, store):
    benchmark.main()
