"""The exact engine on a GPU against the GPU's bare product; needs torch, Triton and NumPy only.

    python -m benchmarks.gpu                       # 100k, 1M and 3.14M faces, about five minutes
    python -m benchmarks.gpu --rows 100000 --kinds separated untrained collapsed
    python -m benchmarks.gpu --sweep               # other shapes of the scan's programs

It first compares every sort of query with the same engine in torch on the CPU, and of every timed
run a sample of anchors with distances by the definition; any difference ends it with code 1.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.gpu.inputs import Kind, defined_d2, every_sort_of_query, faces, usual_queries
from facequarry.miner.engines.gpu.float16_bound import split
from facequarry.miner.engines.gpu.gpu_engine import GpuSearch, Sizes, TileSteps, triton_steps
from facequarry.miner.kernels.layout import Found, Query, Rows

DEVICE = "cuda"
SAMPLE = 64
"""Anchors of each timed run that are searched by the definition as well."""

_BATCH = 8


def main() -> None:
    """Check, time and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000, 3_141_890])
    arguments.add_argument("--dimension", type=int, default=128)
    arguments.add_argument("--kinds", nargs="*", choices=get_args(Kind), default=["separated"])
    arguments.add_argument("--sweep", action="store_true")
    asked = arguments.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.gpu needs a CUDA device, and torch finds none", file=sys.stderr)
        sys.exit(2)
    print(torch.cuda.get_device_name(), "| torch", torch.__version__, flush=True)
    check()
    bare = {str(kind): bare_tflops(kind) for kind in (torch.bfloat16, torch.float16)}
    print("bare product 8192^3, TFLOP/s:", {k: round(v) for k, v in bare.items()}, flush=True)
    if asked.sweep:
        sweep(asked.dimension)
    for num_rows, kind in product(asked.rows, asked.kinds):
        run(num_rows, asked.dimension, kind, bare["torch.bfloat16"])


def check() -> None:
    """Compare the kernels with the torch steps on the CPU, on every sort of query."""
    for kind, dimension in product(get_args(Kind), (20, 128, 300)):
        rows = faces(600, dimension, kind, DEVICE, each=12)
        anchors, queries = every_sort_of_query(rows, DEVICE)
        theirs = GpuSearch(rows, "cpu").search(anchors, queries)
        for block_rows in (None, 384):
            cut = Sizes(tiles_per_group=2, block_rows=block_rows)
            ours = GpuSearch(rows, DEVICE, sizes=cut).search(anchors, queries)
            for place, (left, right, query) in enumerate(zip(ours, theirs, queries, strict=True)):
                if not is_same(left, right, query):
                    sys.exit(f"query {place} of {kind} d={dimension} differs from the CPU's answer")
    print("every sort of query: as on the CPU", flush=True)


def is_same(left: Found, right: Found, query: Query) -> bool:
    """Return whether two answers agree bit for bit."""
    listed = np.arange(query.wanted) < right.best.num[:, None]
    return (
        np.array_equal(left.best.num, right.best.num)
        and np.array_equal(left.best.row[listed], right.best.row[listed])
        and np.array_equal(left.best.d2[listed], right.best.d2[listed])
        and (not query.counted or np.array_equal(left.best.total, right.best.total))
    )


def bare_tflops(kind: torch.dtype, size: int = 8192) -> float:
    """Return what the card's own library reaches on a large square product."""
    left, right = (torch.randn((size, size), device=DEVICE).to(kind) for _ in range(2))
    return 2 * size**3 / median_s(lambda: left @ right) / 1e12


def median_s(work: Callable[[], object], repeats: int = 9) -> float:
    """Return the median seconds of `work` on the device, after two rounds of warming up."""
    taken = []
    for turn in range(repeats + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        if turn > 1:
            taken.append(begin.elapsed_time(end) / 1e3)
    return float(np.median(taken))


class Stages:
    """The kernels with a clock around each: `seconds` by step."""

    def __init__(self) -> None:
        self.seconds = {"scan": 0.0, "measure": 0.0}
        self.pairs = 0
        self.widths: set[int] = set()
        steps = triton_steps()
        self.steps: TileSteps = steps._replace(
            scan=self._timed("scan", steps.scan), measure=self._timed("measure", steps.measure)
        )

    def _timed(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def timed(first: torch.Tensor, *others: Any) -> Any:
            torch.cuda.synchronize()
            began = time.perf_counter()
            out = step(first, *others)
            torch.cuda.synchronize()
            self.seconds[name] += time.perf_counter() - began
            if name == "scan":
                self.widths.add(first.shape[1])
            else:
                self.pairs += len(out)
            return out

        return timed


def run(num_rows: int, dimension: int, kind: Kind, bare: float) -> None:
    """Time one gallery, all rows as anchors with one positive each, and check a sample."""
    rows = faces(num_rows, dimension, kind, DEVICE)
    anchors, queries = usual_queries(rows, DEVICE)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    stages = Stages()
    began = time.perf_counter()
    engine = GpuSearch(rows, DEVICE, steps=stages.steps)
    torch.cuda.synchronize()
    opened = time.perf_counter()
    found = engine.search(anchors, queries)
    done = time.perf_counter()
    tflops = 2 * num_rows**2 * dimension / (done - opened) / 1e12
    others = done - opened - sum(stages.seconds.values())
    print(
        f"N={num_rows} d={dimension} {kind} | open {opened - began:.2f} s | search "
        f"{done - opened:.2f} s = scan {stages.seconds['scan']:.2f} + measure "
        f"{stages.seconds['measure']:.2f} + rest {others:.2f} | {tflops:.0f} TFLOP/s, "
        f"{100 * tflops / bare:.0f} % of bare bf16 | widths {sorted(stages.widths)} | "
        f"{stages.pairs / num_rows:.1f} tiles measured an anchor | "
        f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB | in band "
        f"{100 * float((found[0].best.num > 0).mean()):.1f} %",
        flush=True,
    )
    check_sample(rows, queries, found)


def check_sample(rows: Rows, queries: Sequence[Query], found: Sequence[Found]) -> None:
    """Search some anchors by the definition alone; end the program where an answer differs."""
    sample = np.random.default_rng(0).permutation(rows.ids.size)[:SAMPLE]
    gallery = torch.from_numpy(rows.x).to(DEVICE)
    row = torch.arange(rows.ids.size, device=DEVICE)
    for begin in range(0, SAMPLE, _BATCH):
        some = sample[begin : begin + _BATCH]
        d2 = defined_d2(gallery[torch.from_numpy(some).to(DEVICE)][:, None], gallery[None])
        for values, anchor in zip(d2, some.tolist(), strict=True):
            is_own = (row >= int(rows.first[anchor])) & (row < int(rows.last[anchor]))
            for place, (query, answer) in enumerate(zip(queries, found, strict=True)):
                low, high = float(query.low[anchor]), float(query.high[anchor])
                outside = is_own | (values < low) | (values > high)
                least = values.masked_fill(outside, math.inf)
                best = int(torch.nonzero(least == least.min())[0])
                expected = [] if least[best] == math.inf else [(best, float(least[best]))]
                best_list = answer.best
                num = int(best_list.num[anchor])
                ours = [(int(best_list.row[anchor, 0]), float(best_list.d2[anchor, 0]))][:num]
                if ours != expected:
                    sys.exit(f"anchor {anchor}, query {place}: {ours}, by definition {expected}")
    print(f"  {SAMPLE} anchors: as by definition", flush=True)


def sweep(dimension: int, num_anchors: int = 1 << 16, num_rows: int = 1 << 19) -> None:
    """Time the scan alone in other shapes, two searches an anchor."""
    from triton.runtime.errors import OutOfResources

    from facequarry.miner.engines.gpu import triton_kernels as gpu_kernels

    width = -(-dimension // gpu_kernels.depth_of(dimension)) * gpu_kernels.depth_of(dimension)
    x = torch.nn.functional.normalize(torch.randn((num_rows, dimension), device=DEVICE))
    gallery = split(x, 1, width, is_gallery=True).halves
    upper = torch.ones((2, num_anchors), device=DEVICE)
    own = torch.zeros(num_anchors, dtype=torch.int32, device=DEVICE)
    usual = gpu_kernels.shape_of(width)
    for block, tile_rows, warps, stages in product((64, 128, 256), (64, 128, 256), (4, 8), (2, 3)):
        shape = usual._replace(anchor_block=block, warps=warps, stages=stages)
        scan = functools.partial(gpu_kernels.scan, shape=shape)
        name = f"anchors {block} tile {tile_rows} warps {warps} stages {stages}"
        if block * tile_rows > 128 * 128 * (warps // 4):
            continue  # the products would not fit into the registers
        try:
            taken = median_s(
                lambda scan=scan, tile_rows=tile_rows: scan(  # type: ignore[misc]
                    gallery[:num_anchors], gallery, upper, own, own, num_rows, tile_rows, 64
                ),
                repeats=3,
            )
        except OutOfResources as error:
            print(f"  {name}: {error}", flush=True)
            continue
        print(f"  {name}: {2 * num_anchors * num_rows * dimension / taken / 1e12:.0f} TFLOP/s")


if __name__ == "__main__":
    main()
