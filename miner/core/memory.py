"""Memory that runs out, said in one sentence: what was being done, and what to set.

NumPy, pyarrow and numba raise a MemoryError with a number of bytes or nothing, torch a bare
RuntimeError. Engines that know better what to set raise `OutOfMemory` themselves.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from facequarry.datasets.disk.errors import BadInput

_GIB = 1 << 30
_TORCH_WORDS = ("can't allocate memory", "not enough memory")


class OutOfMemory(BadInput, MemoryError):
    """Memory ran out; the sentence says where, and what to set."""


@contextlib.contextmanager
def explaining_memory(work: str, advice: str) -> Iterator[None]:
    """Raise `OutOfMemory` in the block in place of what libraries raise.

    Args:
        work: what is done, and with how much, such as "embedding 3,000 faces".
        advice: what to set.
    """
    try:
        yield
    except OutOfMemory:
        raise
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"{work} ran out of memory{_asked_for(error)}: {advice}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that there is no memory left, here or on a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _TORCH_WORDS)


def _asked_for(error: BaseException) -> str:
    """Return what the error says of itself, in brackets; nothing where it says nothing."""
    sentence = str(error).partition("\n")[0]
    if found := re.search(r"you tried to allocate (\d+) bytes", sentence):
        sentence = f"Unable to allocate {int(found[1]) / _GIB:.3g} GiB"
    return f" ({sentence.rstrip('.')})" if sentence else ""
