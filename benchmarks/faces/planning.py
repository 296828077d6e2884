"""What an ingest of all of VGGFace2's training part costs its driver, beside the detection.

Photos without pixels: a layout on disk is listed, 3.14 million photos are compared and planned,
and shards of empty crops are published. Seconds for the whole set; what was measured on a part is
multiplied up.

    python -m benchmarks.faces.planning
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.common import show
from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.faces.shards import ShardSummary, write_shard
from facequarry.datasets.faces.snapshots import publish_snapshot
from facequarry.datasets.ingest.known import Known, find_news
from facequarry.datasets.ingest.plan import plan_ingest
from facequarry.datasets.ingest.shard_tasks import ShardTask, face_options
from facequarry.datasets.sources.folder import FolderSource
from facequarry.datasets.sources.photos import Photo, photos_of
from facequarry.datasets.synthetic.large_listing import vggface2_layout, write_layout

T = TypeVar("T")

PHOTOS = 3_141_890
LISTED, SHARDS = 100_000, 100


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_known_args()
    config = IngestConfig()
    options = face_options(config, make_detector(config))
    rows: list[tuple[str, str, str]] = []

    def add(name: str, seconds: float, on: str) -> None:
        rows.append((name, f"{seconds:.1f}", on))

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_layout(root / "photos", LISTED)
        seconds, _ = timed(FolderSource(root / "photos").scan)
        add("list a folder", seconds * PHOTOS / LISTED, f"{LISTED:,} files, cached")
        photos = vggface2_layout(PHOTOS)
        seconds, news = timed(lambda: find_news(photos, Known.nothing(), 0, never))
        add("compare with what is known", seconds, "all")
        seconds, plan = timed(
            lambda: plan_ingest(root, news.photos, None, options, config.photos_per_shard)
        )
        add("plan", seconds, f"all, {len(plan.tasks):,} tasks")
        some = plan.tasks[:SHARDS]
        summaries = [empty_shard(root, task) for task in some]
        share = len(plan.tasks) / len(some)
        seconds, _ = timed(lambda: publish_snapshot(root, options.to_json(), summaries))
        add("publish", seconds * share, f"{SHARDS} shards")
        seconds, _ = timed(lambda: Known.nothing().plus(root, summaries))
        add("read what is known, at the next ingest", seconds * share, f"{SHARDS} shards")
    show(f"the driver's work for {PHOTOS:,} photos", ("", "seconds", "measured on"), rows)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return how long something took, seconds, and what it returned."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def empty_shard(root: Path, task: ShardTask) -> ShardSummary:
    """Write a shard of the task's photos with crops of no bytes."""
    known = {"image": b"", "width": 1, "height": 1, "box": [0.0, 0.0, 1.0, 1.0], "score": 1.0}
    known |= {"landmarks": None, "num_faces_in_source": 1, "source_bytes": 1}
    faces = [
        {"identity": photo.identity, "source": photo.source, "source_sha256": "0" * 64} | known
        for photo in photos_of(task.rows)
    ]
    return write_shard(root, task.digest, faces, [])


def never(photo: Photo) -> None:
    """Refuse to read: these photos have no bytes."""
    raise AssertionError(photo)


if __name__ == "__main__":
    main()
