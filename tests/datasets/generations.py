"""Publish a generation as mining does, without mining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from facequarry.datasets.disk.publish import staged_folder
from facequarry.datasets.generations.generation_files import write_generation


def publish_generation(folder: Path, table: pa.Table, suspects: pa.Table, **told: Any) -> None:
    """Publish under `folder`; `told` is what `write_generation` takes besides."""
    with staged_folder(folder) as staging:
        write_generation(staging, table, suspects, **told)
