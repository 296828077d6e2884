from __future__ import annotations

from importlib.util import find_spec

from benchmarks.__main__ import BENCHMARKS


def test_every_benchmark_of_make_bench_is_there() -> None:
    assert [name for name in BENCHMARKS if find_spec(f"benchmarks.{name}") is None] == []
