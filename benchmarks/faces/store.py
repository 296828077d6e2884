"""What random access to a face costs beyond decoding its JPEG from memory.

The same faces in the same random order, read several ways that take turns in one process: the
store's memory-mapped cache in batches of a training step's size, JPEG bytes that lie in memory
already (the limit: `cv2.imdecode` to RGB, nothing kept), a folder of JPEG files, and the shards'
Parquet row groups. Medians are shown, as ratios to the limit. Files are in the page cache.

    python -m benchmarks.faces.store
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.common import decode_bare, publish_faces, show, take_turns, write_photos
from facequarry.datasets.faces.jpeg import decode_jpeg
from facequarry.datasets.faces.schema import ROW_GROUP_ROWS
from facequarry.datasets.faces.shards import SHARDS
from facequarry.datasets.faces.store import FaceStore

NUM_FACES, BATCH = 960, 192
REPEATS = 9
BARE = "memory (bare decode)"


def measure(folder: Path) -> dict[str, float]:
    """Return seconds a face by way of reading, medians over `REPEATS` turns."""
    root = publish_faces(write_photos(folder / "photos", NUM_FACES), folder)
    store = FaceStore.open(root, folder / "cache")
    order = np.random.default_rng(0).permutation(store.num_faces)
    in_memory = [np.frombuffer(store.jpeg(int(face)), np.uint8) for face in order]
    files = [folder / f"{position:06d}.jpg" for position in range(len(order))]
    for path, jpeg in zip(files, in_memory, strict=True):
        path.write_bytes(jpeg.tobytes())

    def from_store() -> None:
        for start in range(0, len(order), BATCH):
            store.decode(order[start : start + BATCH])

    def one_by_one() -> None:
        for face in order:
            store.decode([int(face)])

    def undecoded() -> None:
        for face in order:
            store.jpeg(int(face))

    def from_files() -> None:
        for path in files:
            decode_jpeg(path.read_bytes())

    ways: dict[str, Callable[[], object]] = {
        BARE: lambda: decode_bare(in_memory),
        f"FaceStore, {BATCH} at once": from_store,
        "FaceStore, one at a time": one_by_one,
        "FaceStore, not decoded": undecoded,
        "folder of JPEG files": from_files,
        f"Parquet, row groups of {ROW_GROUP_ROWS}": _parquet_reader(root, store, order),
    }
    turns = take_turns(ways, REPEATS)
    return {name: seconds / len(order) for name, seconds in turns.items()}


def _parquet_reader(root: Path, store: FaceStore, order: np.ndarray) -> Callable[[], None]:
    shards = store.manifest.shards
    starts = np.array([shard.first_face_index for shard in shards])
    files = [pq.ParquetFile(root / SHARDS / f"{shard.summary.shard}.parquet") for shard in shards]

    def read() -> None:
        for face in order:
            position = int(np.searchsorted(starts, face, side="right")) - 1
            group, row = divmod(int(face - starts[position]), ROW_GROUP_ROWS)
            image = files[position].read_row_group(group, columns=["image"], use_threads=False)[
                "image"
            ][row]
            decode_jpeg(image.as_py())

    return read


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder))
    show(
        f"one random face of {NUM_FACES}, 160 px, medians of {REPEATS}",
        ("read from", "ms a face", "x bare decode"),
        [
            (name, f"{1000 * value:.4f}", f"{value / seconds[BARE]:.3f}")
            for name, value in seconds.items()
        ],
    )


if __name__ == "__main__":
    main()
