"""Which Parquet settings shards should have: row groups, codecs, dictionaries, statistics, pages.

The faces of one ingest are written again and again, each time with one setting changed. For every
file: its bytes beyond the JPEG bytes that it holds, reading one random image (a whole row group has
to be read) as a ratio to decoding that image from memory, and reading the whole file. The files
take turns; medians are shown. `datasets/faces/shards.py` and `ROW_GROUP_ROWS` follow this table.

    python -m benchmarks.faces.shards
    python -m benchmarks.faces.shards --photos PHOTOS   # identity folders of your own, such as LFW
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.common import decode_bare, publish_faces, show, take_turns, write_photos
from facequarry.datasets.faces.schema import FACE_SCHEMA, ROW_GROUP_ROWS
from facequarry.datasets.faces.shards import SHARDS

NUM_FACES, NUM_READS = 1024, 100
REPEATS = 7
BARE = "bare decode"

_COLUMNS = {
    name: f"{name}.list.element"
    if pa.types.is_fixed_size_list(FACE_SCHEMA.field(name).type)
    else name
    for name in FACE_SCHEMA.names
}
_SMALL = [column for name, column in _COLUMNS.items() if name != "image"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a shard is written; the defaults are those of `datasets/ingest/shard_maker.py`."""

    row_group_rows: int = ROW_GROUP_ROWS
    image_codec: str = "none"
    small_codec: str = "snappy"
    """Of every other column."""
    other: tuple[tuple[str, Any], ...] = (
        ("use_dictionary", ["identity"]),
        ("write_statistics", ["identity", "source"]),
    )
    """Further keywords of `pyarrow.parquet.write_table`."""

    def write(self, table: pa.Table, path: Path) -> None:
        """Write all rows to one file."""
        pq.write_table(
            table,
            path,
            row_group_size=self.row_group_rows,
            compression={"image": self.image_codec} | dict.fromkeys(_SMALL, self.small_codec),
            **dict(self.other),
        )


def _with(**keywords: Any) -> Settings:
    return Settings(other=tuple((dict(Settings().other) | keywords).items()))


VARIANTS: dict[str, Settings] = {
    "as shards are": Settings(),
    **{
        f"row groups of {rows}": Settings(row_group_rows=rows)
        for rows in (16, 32, 128, 256, 512, 1024)
    },
    "images snappy": Settings(image_codec="snappy"),
    "images zstd": Settings(image_codec="zstd"),
    "images zstd, row groups of 1024": Settings(image_codec="zstd", row_group_rows=1024),
    "other columns none": Settings(small_codec="none"),
    "other columns zstd": Settings(small_codec="zstd"),
    "no dictionary": _with(use_dictionary=False),
    "dictionary for all but images": _with(use_dictionary=_SMALL),
    "dictionary for images too": _with(use_dictionary=True),
    "no statistics": _with(write_statistics=False),
    "statistics for all": _with(write_statistics=True),
    "with a page index": _with(write_page_index=True),
    "pages of 64 KiB": _with(data_page_size=1 << 16),
    "without the Arrow schema": _with(store_schema=False),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What one way of writing costs."""

    overhead: float
    """File bytes over JPEG bytes, less one."""
    random_s: float
    scan_s: float


def measure(faces: pa.Table, folder: Path) -> tuple[float, dict[str, Row]]:
    """Return seconds of a bare decode, and a row for each of `VARIANTS`."""
    jpegs = [np.frombuffer(image.as_py(), np.uint8) for image in faces["image"]]
    order = np.random.default_rng(0).permutation(len(jpegs))[:NUM_READS]
    ways: dict[str, Callable[[], object]] = {
        BARE: lambda: decode_bare(jpegs[face] for face in order)
    }
    sizes: dict[str, int] = {}
    for number, (name, settings) in enumerate(VARIANTS.items()):
        path = folder / f"{number}.parquet"
        settings.write(faces, path)
        sizes[name] = path.stat().st_size
        ways[f"random {name}"] = _random_reader(path, settings.row_group_rows, order)
        ways[f"scan {name}"] = partial(pq.read_table, path, use_threads=False)
    seconds = take_turns(ways, REPEATS)
    num_bytes = sum(len(jpeg) for jpeg in jpegs)
    return seconds[BARE] / len(order), {
        name: Row(
            overhead=sizes[name] / num_bytes - 1,
            random_s=seconds[f"random {name}"] / len(order),
            scan_s=seconds[f"scan {name}"],
        )
        for name in VARIANTS
    }


def _random_reader(path: Path, group_rows: int, order: NDArray[np.int64]) -> Callable[[], None]:
    file = pq.ParquetFile(path)

    def read() -> None:
        for face in order:
            group, row = divmod(int(face), group_rows)
            file.read_row_group(group, columns=["image"], use_threads=False)["image"][row].as_py()

    return read


def _faces(root: Path) -> pa.Table:
    paths = sorted((root / SHARDS).glob("*.parquet"))
    faces = pa.concat_tables([pq.read_table(path) for path in paths])
    return faces.slice(0, NUM_FACES).combine_chunks()


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faces.shards")
    parser.add_argument("--photos", type=Path, help="identity folders; default: synthetic photos")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.photos:
            root = publish_faces(options.photos, folder, detector="dlib-hog")
        else:
            root = publish_faces(write_photos(folder / "photos", NUM_FACES), folder)
        faces = _faces(root)
        bare_s, rows = measure(faces, folder)
    show(
        f"one file of {faces.num_rows} faces, medians of {REPEATS}; bare decode of one image "
        f"{1000 * bare_s:.3f} ms",
        ("written", "bytes over JPEG", "random image ms", "x bare decode", "whole file ms"),
        [
            (
                name,
                f"{100 * row.overhead:+.2f} %",
                f"{1000 * row.random_s:.3f}",
                f"{row.random_s / bare_s:.2f}",
                f"{1000 * row.scan_s:.1f}",
            )
            for name, row in rows.items()
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
