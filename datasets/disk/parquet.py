"""Parquet files that a disk may have damaged: what pyarrow raises of them, as one error of ours.

with reading_parquet(path, "restore it"):
    table = pq.read_table(path)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from facequarry.datasets.disk.errors import Damaged


@contextlib.contextmanager
def reading_parquet(
    path: Path, advice: str, *, error_class: type[Damaged] = Damaged
) -> Iterator[None]:
    """Raise `error_class` in the block in place of what pyarrow raises of damaged bytes.

    Args:
        path: of the file, which the sentence names.
        advice: what to do about it.
        error_class: what to raise.

    Raises:
        Damaged: the file is cut off, is none, or lacks a column.
        OSError: the operating system does not let it be read; a FileNotFoundError, too.
    """
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        # What the operating system raises has a number, pyarrow's own complaints have none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).partition("\n")[0].rstrip(". ")
        raise error_class(f"{path} is no whole Parquet file ({reason}); {advice}") from error
