"""How kernels are compiled, and when what was compiled before is used again.

All kernels release the GIL and write only to rows `begin:end` of their outputs, so that threads
share the work without locks and their number cannot show in the results.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile without fast-math, so that floating-point operations stay in source order.

    And without counting references: a named tuple's arrays would be counted up and down wherever
    one is taken out, which takes ten times as long as what is done with it. A kernel therefore
    makes no arrays; its caller holds them all.
    """
    return _compiled(function)


def inlined(function: F) -> F:
    """Compile into each caller: handing all those arrays over takes longer than a short loop."""
    return _compiled(function, inline="always")


def reassociating_kernel(function: F) -> F:
    """Compile so that sums may be taken in any order."""
    return _compiled(function, fastmath={"reassoc", "nsz", "contract"})


def _compiled(function: F, **options: Any) -> F:
    # numba looks only at the file of a kernel to see whether its machine code is current, and not
    # at those of the kernels it calls: an edit there would go unnoticed. So every state of all
    # these files has a folder of its own.
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, _folder() or config.CACHE_DIR
    try:
        options |= {"nogil": True, "cache": True, "_nrt": False}
        return cast(F, numba.njit(**options)(function))
    finally:
        config.CACHE_DIR = before


@functools.cache
def _folder() -> str | None:
    """Return where to keep machine code, None where numba's own choice has to do."""
    config: Any = numba.config
    if config.CACHE_DIR or not os.access(Path(__file__).parent, os.W_OK):
        return None
    sources = sorted(Path(__file__).parent.glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return str(Path(__file__).parent / "__pycache__" / digest[:16])
