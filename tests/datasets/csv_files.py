"""Csv files, and photos to match them with."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa


def write_csv(folder: Path, text: str) -> Path:
    """Write `some.csv`, its line ends as they are."""
    path = folder / "some.csv"
    path.write_bytes(text.encode())
    return path


def listing_of(*sources: str) -> pa.Table:
    """Return the columns of a listing that csv files are matched with."""
    return pa.table(
        {
            "identity": pa.array([source.split("/")[0] for source in sources], pa.string()),
            "source": pa.array(sources, pa.string()),
            "box": pa.nulls(len(sources), pa.list_(pa.float32(), 4)),
        }
    )
