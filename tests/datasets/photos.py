"""Drawn photos: small, seeded, no faces in them; for the detector `none`."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.faces.jpeg import RgbImage
from facequarry.datasets.faces.schema import Rejected
from facequarry.datasets.faces.shards import ShardSummary
from facequarry.datasets.faces.snapshots import publish_snapshot, read_snapshot, snapshot_numbers
from facequarry.datasets.ingest.known import Known, find_news
from facequarry.datasets.ingest.plan import plan_ingest
from facequarry.datasets.ingest.shard_maker import ShardMaker
from facequarry.datasets.ingest.shard_tasks import face_options
from facequarry.datasets.sources.folder import FolderSource
from facequarry.datasets.sources.photos import LISTING_SCHEMA, Photo, photos_of

WHOLE = IngestConfig(detector="none", crop_px=32, photos_per_shard=4, actors=1)


def draw(seed: int, height: int = 48, width: int = 40) -> RgbImage:
    """Return an (H, W, 3) uint8 picture of soft blobs."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 5, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def write_photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), draw(seed)):
        raise OSError(f"cannot write {path}")


def write_tree(root: Path, photos_per_identity: dict[str, int]) -> Path:
    """Write `<identity>/0001_01.jpg` and so on; the same names give the same bytes."""
    for identity, count in photos_per_identity.items():
        for number in range(1, count + 1):
            seed = sum(identity.encode()) * 1000 + number
            write_photo(root / identity / f"{number:04d}_01.jpg", seed)
    return root


def write_bad_photos(folder: Path) -> dict[str, str]:
    """Write one photo of each kind that is rejected; return reason by file name."""
    write_photo(folder / "good.jpg", 7)
    good = (folder / "good.jpg").read_bytes()
    (folder / "good.jpg").unlink()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_bytes(b"this is no photo")
    (folder / "cut.jpg").write_bytes(good[: len(good) // 2])
    (folder / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (folder / "loop.jpg").symlink_to("loop.jpg")
    return {
        "empty.jpg": "empty_file",
        "text.jpg": "not_an_image",
        "cut.jpg": "truncated",
        "torn.png": "corrupt",
        "loop.jpg": "unreadable",
    }


def pack(folder: Path, path: Path, prefix: str = "train") -> Path:
    """Pack a folder the way `tar` does, in the order of the file system."""
    mode = "w:gz" if path.name.endswith("gz") else "w:"
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        tar.add(folder, prefix)
    return path


def bytes_of(root: Path) -> dict[str, bytes]:
    """Return every published byte of a faces root by relative path."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in ("shards", "rejects", "snapshots")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }


def listed(source: Path) -> pa.Table:
    """Return the listing table of a folder."""
    return FolderSource(source).scan().photos


def photos_in(source: Path) -> list[Photo]:
    """Return the photos of a folder, sorted."""
    return list(photos_of(listed(source)))


def table_of(photos: list[Photo]) -> pa.Table:
    """Return the listing table of photos."""
    rows = [
        {"identity": photo.identity, "source": photo.source, "size_bytes": photo.size_bytes}
        | {"offset_bytes": photo.offset_bytes, "modified_ns": 0, "box": photo.box}
        for photo in photos
    ]
    return pa.Table.from_pylist(rows, LISTING_SCHEMA)


def publish_plainly(source: Path, root: Path, config: IngestConfig = WHOLE) -> list[ShardSummary]:
    """Make and publish everything new of a folder in this process, without Ray."""
    options = face_options(config, make_detector(config))
    current = read_snapshot(root) if snapshot_numbers(root) else None
    added = [shard.summary for shard in current.shards] if current else []
    known = Known.nothing().plus(root, added)
    folder, number = FolderSource(source), current.number if current else 0

    def digest(photo: Photo) -> str | None:
        try:
            return hashlib.sha256(folder.read(photo, max_bytes=1 << 30)).hexdigest()
        except Rejected:
            return None

    news = find_news(listed(source), known, number, digest)
    plan = plan_ingest(root, news.photos, current, options, config.photos_per_shard)
    maker = ShardMaker(folder, root, config)
    summaries = [maker.make(task) for task in plan.tasks]
    publish_snapshot(root, options.to_json(), summaries, news.retried)
    return summaries
