"""What the benchmarks share: photos, an embedded Ray, turns and tables."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import ray
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from facequarry.datasets.config import DetectorName, IngestConfig
from facequarry.datasets.ingest.ingest import ingest
from facequarry.datasets.synthetic import photo_bytes

CPUS = 2
REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Real photos and model files that lie beside the project while it is developed."""
_DRAWN, _PHOTOS_PER_IDENTITY = 256, 16
_WIDTH = 120
_OBJECT_STORE_BYTES = 256 << 20


def write_photos(folder: Path, num_photos: int) -> Path:
    """Write synthetic photos; drawing takes longer than ingesting, so that 256 repeat."""
    drawn = [photo_bytes(1 + n // _PHOTOS_PER_IDENTITY, n) for n in range(min(num_photos, _DRAWN))]
    for number in range(num_photos):
        identity, photo = divmod(number, _PHOTOS_PER_IDENTITY)
        path = folder / f"n{identity:06d}" / f"{photo:04d}_01.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn[number % len(drawn)])
    return folder


@contextlib.contextmanager
def embedded_ray() -> Iterator[None]:
    """Start a Ray of two CPUs in this process's session and stop it."""
    ray.init(
        address="local",
        num_cpus=CPUS,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()


def publish_faces(
    source: Path, folder: Path, *, detector: DetectorName = "none", crop_px: int = 160
) -> Path:
    """Ingest photos into `folder/faces` on a Ray of its own; return the faces root."""
    root = folder / "faces"
    with embedded_ray():
        ingest(source, root, IngestConfig(detector=detector, actors=CPUS, crop_px=crop_px))
    return root


def decode_bare(jpegs: Iterable[NDArray[np.uint8]]) -> None:
    """Decode JPEG bytes in memory the fastest plain way, to RGB; keep nothing."""
    for jpeg in jpegs:
        cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB)


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def take_turns(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return seconds by way, medians; the ways take turns, so that other load falls on all."""
    turns: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            turns[name].append(seconds(work))
    return {name: median(times) for name, times in turns.items()}


def show(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    remarks: Sequence[str] = (),
) -> None:
    """Print a table, its first column text and the others figures, and remarks below it."""
    table = Table(title=title, title_justify="left")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(width=_WIDTH)
    console.print(table)
    for remark in remarks:
        console.print(remark, markup=False, highlight=False, soft_wrap=True)
