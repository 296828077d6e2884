"""What one shard is made from: its photos, in order, and a digest that names it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.detection import Detector
from facequarry.datasets.faces.schema import FaceOptions
from facequarry.datasets.faces.shards import shard_name
from facequarry.datasets.sources.photos import Photo, photos_of


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The photos of one shard, to be made by anyone."""

    index: int
    """Position in task order, which is the order of shards in the next snapshot."""
    rows: pa.Table
    """Its photos, as rows of a listing."""
    digest: str
    """Hex SHA-256 over photos, their sizes and the options."""

    @property
    def photos(self) -> list[Photo]:
        """The photos, in the order of the shard's rows."""
        return list(photos_of(self.rows))

    @property
    def num_photos(self) -> int:
        """How many photos there are."""
        return int(self.rows.num_rows)

    @property
    def shard(self) -> str:
        """Name of the shard."""
        return shard_name(self.digest)


def face_options(config: IngestConfig, detector: Detector) -> FaceOptions:
    """Return what decides a face's bytes, as it is recorded in manifests."""
    return FaceOptions(
        detector=detector.name,
        detector_options=detector.options,
        crop_px=config.crop_px,
        margin_px=config.resolved_margin_px,
        alignment=config.resolved_alignment,
        min_face_px=config.min_face_px,
        max_photo_mpx=config.max_photo_mpx,
        max_file_mib=config.max_file_mib,
        choice="largest" if config.boxes is None else "nearest_to_box",
    )


def task_digest(rows: pa.Table, options: FaceOptions) -> str:
    """Hex SHA-256 over sorted photos, their sizes and given boxes, and the options.

    Where a photo's bytes lie does not count: a folder and an archive of it give the same shards.
    """
    digest = hashlib.sha256(options.digest.encode())
    for photo in photos_of(rows):
        line = f"\n{photo.identity}\0{photo.source}\0{photo.size_bytes}"
        if photo.box is not None:
            line += f"\0box {photo.box}"
        if photo.retried_after is not None:
            line += f"\0again {photo.retried_after}"
        digest.update(line.encode())
    return digest.hexdigest()


def plan_tasks(rows: pa.Table, options: FaceOptions, photos_per_shard: int) -> list[ShardTask]:
    """Cut sorted photos into tasks of equal length, the last one shorter."""
    cuts = range(0, rows.num_rows, photos_per_shard)
    parts = [rows.slice(start, photos_per_shard) for start in cuts]
    return [ShardTask(index, part, task_digest(part, options)) for index, part in enumerate(parts)]
