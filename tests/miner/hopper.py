"""Compile the GPU engine's kernels for a Hopper GPU, with none at hand; print what they take.

    python -m tests.miner.hopper

One JSON object a line: the kernel's shape, its registers and stack bytes per thread, its shared
memory per program in bytes, and its matrix instructions by name.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from facequarry.miner.engines.gpu import triton_kernels as gpu_kernels

_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_POINTERS = {
    "anchors": "*fp16",
    "gallery": "*fp16",
    "upper": "*fp32",
    "first": "*i32",
    "last": "*i32",
    "out": "*fp32",
    "group_out": "*fp32",
    "tiles": "*fp32",
    "pair_anchor": "*i64",
    "pair_tile": "*i64",
    "low": "*fp32",
    "high": "*fp32",
}


def compiled(
    kernel: Any, types: Mapping[str, str], constants: Mapping[str, int], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Compile for compute capability 9.0 and return what the machine code takes."""
    names = list(kernel.arg_names)
    pointers = _POINTERS | dict(types)
    signature = {name: "constexpr" if name in constants else "i32" for name in names}
    signature |= {name: kind for name, kind in pointers.items() if name in names}
    # Tensors start at multiples of 16 bytes, and whole anchor blocks make num_anchors one.
    aligned = [names.index(name) for name in (*pointers, "num_anchors") if name in names]
    source = ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items()},
        {(place,): [["tt.divisibility", 16]] for place in aligned},
    )
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=dict(options))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        usage = _run("cuobjdump", "--dump-resource-usage", file.name)
        code = _run("nvdisasm", "-c", file.name)
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage)[0]
    return {
        **constants,
        "registers": int(registers),
        "stack_bytes": int(stack),
        "shared_bytes": built.metadata.shared,
        "instructions": Counter(re.findall(r"\b(HGMMA|HMMA|VIMNMX3?|DFMA|DMUL|DADD)\b", code)),
    }


def _run(tool: str, *arguments: str) -> str:
    done = subprocess.run([_TOOLS / tool, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def main() -> None:
    """Compile the shapes that mining uses."""
    for width, searches in ((128, 2), (128, 4), (384, 2), (512, 4), (96, 2)):
        shape = gpu_kernels.shape_of(width)
        constants = {
            "width": width,
            "depth": shape.depth,
            "searches": searches,
            "anchor_block": gpu_kernels.ANCHOR_BLOCK,
            "tile_rows": 128,
        }
        options = {
            "num_warps": shape.warps,
            "num_stages": shape.stages,
            "enable_fp_fusion": False,
        }
        print(json.dumps({"kernel": "scan"} | compiled(gpu_kernels._scan, {}, constants, options)))
    measured = compiled(
        gpu_kernels._measure,
        {"anchors": "*fp32"},
        {"tile_rows": 128},
        {"num_warps": 4, "enable_fp_fusion": False},
    )
    print(json.dumps({"kernel": "measure"} | measured))


if __name__ == "__main__":
    main()
