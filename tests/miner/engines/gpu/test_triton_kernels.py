"""The Triton kernels through Triton's interpreter, and compiled for a Hopper GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.miner.engines.gpu import torch_steps as gpu_torch
from facequarry.miner.engines.gpu.float16_bound import split
from facequarry.miner.engines.gpu.gpu_engine import GpuSearch, Sizes, TileSteps, triton_steps
from facequarry.miner.kernels.layout import Int64Array, Query, Rows
from tests.miner.gpu_inputs import answers_of_cpu, assert_same, searches, usual_queries

# Looked for and not imported: what an import reads from the environment, it reads once.
TRITON = find_spec("triton")

pytestmark = [
    pytest.mark.skipif(TRITON is None, reason="Triton is not installed"),
    pytest.mark.skipif(
        torch.cuda.is_available(), reason="a GPU runs the kernels themselves: test_gpu_device.py"
    ),
]

SHARED_BYTES = 227 << 10
"""Shared memory of a Hopper multiprocessor that programs can have."""
REGISTERS = 1 << 16


@pytest.fixture(scope="module")
def kernels() -> Iterator[TileSteps]:
    from facequarry.miner.engines.gpu import (
        triton_kernels as gpu_kernels,  # interpreted: tests/conftest.py
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_kernels, "ANCHOR_BLOCK", 16)
        yield triton_steps()


small = st.builds(
    Sizes,
    tile_rows=st.sampled_from([16, 32]),
    tiles_per_group=st.integers(1, 3),
    searches=st.integers(1, 3),
    block_rows=st.none() | st.integers(1, 20),
    measured_share=st.sampled_from([0.0, 1.0]),
)


@settings(max_examples=15)
@given(asked=searches(), cut=small)
def test_interpreted_kernels_give_the_cpu_engines_answers(
    kernels: TileSteps, asked: tuple[Rows, Int64Array, list[Query]], cut: Sizes
) -> None:
    rows, anchors, queries = asked
    found = GpuSearch(rows, "cpu", sizes=cut, steps=kernels).search(anchors, queries)
    assert_same(found, answers_of_cpu(rows, anchors, queries), queries)


@pytest.mark.parametrize(("dimension", "noise"), [(20, 0.5), (130, 5.0)])
def test_interpreted_kernels_answer_what_mining_asks(
    kernels: TileSteps, dimension: int, noise: float
) -> None:
    rows, anchors, queries = usual_queries(12, 3, dimension, noise)
    cut = Sizes(tile_rows=16, tiles_per_group=2)
    found = GpuSearch(rows, "cpu", sizes=cut, steps=kernels).search(anchors, queries)
    assert_same(found, answers_of_cpu(rows, anchors, queries), queries)


@pytest.mark.parametrize("level", [1, 3])
@pytest.mark.parametrize("tile_rows", [16, 64])
def test_interpreted_kernels_do_what_the_torch_steps_do(
    kernels: TileSteps, level: int, tile_rows: int
) -> None:
    random = torch.Generator().manual_seed(0)
    num_rows, num_tiles, num_anchors = 150, -(-150 // tile_rows), 32
    x = torch.nn.functional.normalize(torch.randn((num_rows, 20), generator=random))
    padded = torch.zeros((num_tiles * tile_rows, 20))
    padded[:num_rows] = x
    first = torch.arange(num_anchors, dtype=torch.int32) // 5 * 5
    upper = torch.rand((3, num_anchors), generator=random)
    upper[2, 7] = -torch.inf
    asked = (
        split(x[:num_anchors], level, 32, is_gallery=False).halves,
        split(padded, level, 32, is_gallery=True).halves,
        upper,
        first,
        first + 5,
        num_rows,
        tile_rows,
        2,
    )
    for ours, theirs in zip(kernels.scan(*asked), gpu_torch.scan(*asked), strict=True):
        counts = min(ours.shape[1], num_tiles)
        for values in (ours, theirs):
            values[values < 0] = -1
        torch.testing.assert_close(ours[:, :counts], theirs[:, :counts], rtol=0, atol=1e-6)
        assert torch.all(ours[2, :counts, 7] == -1)
    pair_anchor = torch.randint(num_anchors, (20,), generator=random)
    low = torch.rand(20, generator=random)
    measured = (
        padded.view(num_tiles, tile_rows, 20).transpose(1, 2).contiguous(),
        x[:num_anchors],
        pair_anchor,
        pair_anchor % num_tiles,
        first,
        first + 5,
        low,
        low + 1,
        num_rows,
    )
    assert torch.equal(kernels.measure(*measured), gpu_torch.measure(*measured))


def test_kernels_compile_for_hopper_and_two_programs_share_a_multiprocessor() -> None:
    assert TRITON is not None and TRITON.origin is not None
    if not (Path(TRITON.origin).parent / "backends/nvidia/bin/ptxas").exists():
        pytest.skip("this build of Triton has no assembler for NVIDIA GPUs")
    environment = {name: value for name, value in os.environ.items() if "TRITON" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "tests.miner.hopper"],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    shapes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(shapes) == 6
    for shape in shapes:
        assert shape["stack_bytes"] == 0, f"registers spill: {shape}"
        assert shape["shared_bytes"] <= SHARED_BYTES
        assert "HMMA" not in shape["instructions"]
        if shape["kernel"] == "scan":
            assert shape["instructions"]["HGMMA"] > 0
        if shape.get("width") == 128:
            assert 2 * 128 * shape["registers"] <= REGISTERS
            assert 2 * shape["shared_bytes"] <= SHARED_BYTES
    # A fused multiply-add would round once where the definition of d2 rounds twice.
    assert "DFMA" not in shapes[-1]["instructions"]
