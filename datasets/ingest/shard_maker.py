"""One list of photos to one shard: plain Python, run by a Ray actor or by a test.

A shard is `rejects/<shard>.parquet`, `shards/<shard>.parquet` and, written last, the
`shards/<shard>.json` that makes it finished. Its name and its bytes follow from its photos and
options alone, so it does not matter who makes it, when, or how often it was begun.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.crop import cut_face, encode_jpeg
from facequarry.datasets.detection.decode import decode_photo
from facequarry.datasets.detection.detectors import Detector, choose, make_detector
from facequarry.datasets.disk.publish import (
    SCHEMA_VERSION,
    AlreadyPublished,
    read_manifest,
    sha256_file,
    staged_file,
    write_json,
)
from facequarry.datasets.faces.schema import (
    FACE_SCHEMA,
    REJECT_SCHEMA,
    ROW_GROUP_ROWS,
    FaceOptions,
    Reason,
    Rejected,
)
from facequarry.datasets.sources.photos import Photo, Source, photos_of

SHARDS = "shards"
REJECTS = "rejects"


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
        return self.digest[:16]


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """What `shards/<shard>.json` says about a finished shard."""

    shard: str
    rows: int
    bytes: int
    sha256: str
    digest: str
    rejects: dict[str, int]

    @property
    def num_photos(self) -> int:
        """Photos looked at: faces and rejects."""
        return self.rows + sum(self.rejects.values())


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


def read_summary(root: Path, shard: str) -> ShardSummary | None:
    """Return the summary of a finished shard; None where it was never finished.

    Raises:
        NewerSchema: a newer FaceQuarry made it.
        ValueError: the summary is not one.
    """
    path = root / SHARDS / f"{shard}.json"
    if not path.is_file():
        return None
    value = read_manifest(path)
    try:
        return ShardSummary(**{name: value[name] for name in ShardSummary.__slots__})
    except KeyError as error:
        raise ValueError(f"{path} lacks {error}; remove the file to have it made again") from error


class ShardMaker:
    """Makes shards of one source with one detector; the logic of a detection actor.

    Args:
        source: where the photos are.
        root: the faces root.
        config: how photos become faces.
    """

    def __init__(self, source: Source, root: Path, config: IngestConfig) -> None:
        self._source = source
        self._root = root
        # One CPU an actor: OpenCV's own threads would only compete with the other actors.
        cv2.setNumThreads(1)
        self._detector = make_detector(config)
        self._options = face_options(config, self._detector)

    def ready(self) -> None:
        """Load what the detector loads at first use."""
        self._detector.detect(np.zeros((64, 64, 3), np.uint8))

    def make(
        self, task: ShardTask, crashed: Collection[str] = (), *, careful: bool = False
    ) -> ShardSummary:
        """Make the task's shard, or return its summary where it is finished.

        Args:
            task: what to make.
            crashed: sources that are not looked at, because makers died of them.
            careful: leave the name of the photo in hand on disk, under `in_hand_path`.

        Raises:
            OSError: it cannot be written (disk full, no permission); photos that cannot be read
                are rejects, never errors.
            SourceChanged: the source is no longer the one that was listed.
        """
        finished = read_summary(self._root, task.shard)
        if finished is not None:
            return finished
        photos = task.photos
        answers: dict[str, dict[str, Any]] = {}
        # An archive is read forwards; the rows keep the task's order.
        for photo in sorted(photos, key=lambda photo: photo.offset_bytes):
            if careful:
                with staged_file(in_hand_path(self._root, task.shard), replace=True) as staging:
                    staging.write_text(photo.source, encoding="utf-8")
            answers[photo.source] = self._look_at(photo, is_crashed=photo.source in crashed)
        self._source.check()  # or the rows would be another archive's
        rows = [answers[photo.source] for photo in photos]
        faces = [row for row in rows if "image" in row]
        rejects = [row for row in rows if "reason" in row]
        summary = write_shard(self._root, task, faces, rejects)
        in_hand_path(self._root, task.shard).unlink(missing_ok=True)
        return summary

    def _look_at(self, photo: Photo, *, is_crashed: bool) -> dict[str, Any]:
        """Return a photo's row: of the faces if it has an image, of the rejects if a reason."""
        known: dict[str, Any] = {
            "identity": photo.identity,
            "source": photo.source,
            "source_bytes": photo.size_bytes,
        }
        try:
            raw = self._source.read(photo, max_bytes=self._options.max_file_mib << 20)
            known |= {
                "source_bytes": len(raw),
                "source_sha256": hashlib.sha256(raw).hexdigest(),
            }
            if is_crashed:
                raise Rejected(Reason.CRASHED, f"{self._options.detector} or the decoder")
            return known | self._face_of(photo, raw)
        except Rejected as error:
            return known | {"reason": str(error.reason), "detail": error.detail}

    def _face_of(self, photo: Photo, raw: bytes) -> dict[str, Any]:
        options = self._options
        image = decode_photo(raw, max_pixels=options.max_photo_mpx * 1_000_000)
        height, width = image.shape[:2]
        try:
            detections = self._detector.detect(image)
            if not detections:
                raise Rejected(Reason.NO_FACE, f"{options.detector}, {width} x {height} px")
            face = choose(
                detections, None if photo.box is None else np.array(photo.box, np.float32)
            )
            if face is None:
                raise Rejected(
                    Reason.AWAY_FROM_BOX, f"none of {len(detections)} faces overlaps {photo.box}"
                )
            if min(face.width, face.height) < options.min_face_px:
                raise Rejected(Reason.TOO_SMALL, f"{face.width:.0f} x {face.height:.0f} px")
            crop = cut_face(
                image,
                face,
                alignment=options.alignment,
                crop_px=options.crop_px,
                margin_px=options.margin_px,
            )
            encoded = encode_jpeg(crop)
        except (Rejected, MemoryError):
            raise
        except Exception as error:  # one photo never ends a shard, whatever a library raises
            raise Rejected(Reason.FAILED, f"{type(error).__name__}: {error}") from error
        return {
            "image": encoded,
            "width": width,
            "height": height,
            "box": face.box,
            "landmarks": face.landmarks,
            "score": face.score,
            "num_faces_in_source": len(detections),
        }


def write_shard(
    root: Path, task: ShardTask, faces: list[dict[str, Any]], rejects: list[dict[str, Any]]
) -> ShardSummary:
    """Write the files of a shard, the summary last."""
    # Without a summary a shard is not there yet: what a killed maker left may be replaced.
    with staged_file(root / REJECTS / f"{task.shard}.parquet", replace=True) as path:
        pq.write_table(pa.Table.from_pylist(rejects, REJECT_SCHEMA), path)
    final = root / SHARDS / f"{task.shard}.parquet"
    with staged_file(final, replace=True) as path:
        _write_faces(pa.Table.from_pylist(faces, FACE_SCHEMA), path)
        num_bytes, sha256 = path.stat().st_size, sha256_file(path)
    by_reason = Counter(reject["reason"] for reject in rejects)
    summary = ShardSummary(
        task.shard, len(faces), num_bytes, sha256, task.digest, dict(sorted(by_reason.items()))
    )
    try:
        write_json(
            root / SHARDS / f"{task.shard}.json",
            {"schema_version": SCHEMA_VERSION, **asdict(summary)},
        )
    except AlreadyPublished:
        pass  # an actor believed dead finished the same bytes
    return summary


def in_hand_path(root: Path, shard: str) -> Path:
    """File with the source that a careful maker is looking at."""
    return root / SHARDS / f"{shard}.in-hand"


def _write_faces(table: pa.Table, path: Path) -> None:
    small = [name for name in FACE_SCHEMA.names if name != "image"]
    pq.write_table(
        table,
        path,
        row_group_size=ROW_GROUP_ROWS,
        # JPEG bytes gain nothing from another codec, and no reader asks for their minimum.
        compression={"image": "none"} | {_leaf(name): "snappy" for name in small},
        use_dictionary=["identity"],
        write_statistics=["identity", "source"],
    )


def _leaf(name: str) -> str:
    """Return a column's path in Parquet, where the items of a list are a column of their own."""
    is_list = pa.types.is_fixed_size_list(FACE_SCHEMA.field(name).type)
    return f"{name}.list.element" if is_list else name
