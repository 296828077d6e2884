"""The engine on a real GPU; `python -m benchmarks.gpu` checks the same without the miner's rest."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.inputs import faces, usual_queries
from facequarry.miner.engines.gpu.gpu_engine import GpuSearch


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_kernels_on_the_gpu_give_the_cpu_answers() -> None:
    gpu.check()


def test_torch_steps_pass_the_check_that_the_gpu_must_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    rows = faces(1000, 20, "separated", "cpu", each=20)
    anchors, queries = usual_queries(rows, "cpu")
    found = GpuSearch(rows, "cpu").search(anchors, queries)
    gpu.check_sample(rows, queries, found)
    found[1].best.row[:] += 1
    with pytest.raises(SystemExit, match="by definition"):
        gpu.check_sample(rows, queries, found)


def test_engine_and_benchmark_import_without_what_a_gpu_machine_lacks() -> None:
    absent = ("numba", "faiss", "ray", "pyarrow", "cv2", "rich", "triton")
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import benchmarks.gpu"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a GPU")
def test_benchmark_without_a_gpu_ends_with_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr == "benchmarks.gpu needs a CUDA device, and torch finds none\n"
