"""A second process that holds a lock, to be stopped or killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def holding(code: str, path: Path, says: str) -> Iterator[subprocess.Popen[str]]:
    """Run code that gets `path` as its first argument; enter once it has said `says`."""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == f"{says}\n"
            yield process
        finally:
            process.kill()
            process.wait(timeout=60)
