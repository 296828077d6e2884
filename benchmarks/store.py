"""What random access to a face costs beyond decoding its JPEG from memory.

The same faces in the same random order, read four ways that take turns in one process: the store's
memory-mapped cache, JPEG bytes that lie in memory already (the limit), the shards' Parquet row
groups, and a folder of JPEG files. Medians are shown, as ratios to the limit.

    python -m benchmarks.store
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq
import ray
from rich.console import Console
from rich.table import Table

from datasets.config import IngestConfig
from datasets.crop import decode_jpeg
from datasets.faces import FaceStore
from datasets.ingest import ingest
from datasets.schema import ROW_GROUP_ROWS
from datasets.shard import SHARDS
from datasets.synthetic import write_photos

IDENTITIES, PHOTOS, CROP_PX = 64, 16, 160
REPEATS = 5
CONFIG = IngestConfig(detector="none", crop_px=CROP_PX)


def measure(folder: Path) -> dict[str, float]:
    """Return seconds a face by way of reading, medians over `REPEATS` turns."""
    write_photos(folder / "photos", num_identities=IDENTITIES, photos_per_identity=PHOTOS)
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    try:
        ingest(folder / "photos", folder / "faces", CONFIG)
    finally:
        ray.shutdown()
    store = FaceStore.open(folder / "faces", folder / "cache")
    order = np.random.default_rng(0).permutation(store.num_faces)
    in_memory = [np.frombuffer(store.jpeg(int(face)), np.uint8) for face in order]
    files = []
    for position, jpeg in enumerate(in_memory):
        files.append(folder / f"{position:06d}.jpg")
        files[-1].write_bytes(jpeg.tobytes())
    shards = [
        (shard.first_face_index, pq.ParquetFile(folder / "faces" / SHARDS / f"{name}.parquet"))
        for shard in store.manifest.shards
        for name in [shard.summary.shard]
    ]
    starts = np.array([first for first, _ in shards])

    def from_parquet() -> None:
        for face in order[: len(order) // 8]:  # an eighth: it is the slow one
            first, file = shards[int(np.searchsorted(starts, face, side="right")) - 1]
            group, row = divmod(int(face) - first, ROW_GROUP_ROWS)
            image = file.read_row_group(group, columns=["image"])["image"][row]
            decode_jpeg(np.frombuffer(image.as_py(), np.uint8))

    def from_memory() -> None:
        for jpeg in in_memory:
            decode_jpeg(jpeg)

    def from_files() -> None:
        for path in files:
            decode_jpeg(np.frombuffer(path.read_bytes(), np.uint8))

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "memory (bare decode)": (from_memory, len(order)),
        "FaceStore": (lambda: store.decode(order), len(order)),
        "folder of JPEG files": (from_files, len(order)),
        "Parquet row groups": (from_parquet, len(order) // 8),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, (read, count) in ways.items():
            began = time.perf_counter()
            read()
            seconds[name].append((time.perf_counter() - began) / count)
    return {name: median(times) for name, times in seconds.items()}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder))
    bare = seconds["memory (bare decode)"]
    table = Table(
        title=f"one random face of {IDENTITIES * PHOTOS}, {CROP_PX} px, decoded; "
        f"medians of {REPEATS}"
    )
    table.add_column("read from")
    table.add_column("ms a face", justify="right")
    table.add_column("x bare decode", justify="right")
    for name, value in seconds.items():
        table.add_row(name, f"{1000 * value:.3f}", f"{value / bare:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
