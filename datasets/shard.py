"""One list of photos to one shard: plain Python, run by a Ray actor or by a test.

A shard is `rejects/<shard>.parquet`, `shards/<shard>.parquet` and, written last, the
`shards/<shard>.json` that makes it finished. Its name and its bytes follow from its photos and
options alone, so it does not matter who makes it, when, or how often it was begun.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.config import IngestConfig
from datasets.crop import cut_face, encode_jpeg
from datasets.decode import decode_photo
from datasets.detect import Detector, choose, make_detector
from datasets.publish import (
    SCHEMA_VERSION,
    AlreadyPublished,
    read_manifest,
    sha256_file,
    staged_file,
    write_json,
)
from datasets.schema import (
    FACE_SCHEMA,
    REJECT_SCHEMA,
    ROW_GROUP_ROWS,
    FaceOptions,
    Reason,
    Rejected,
)
from datasets.sources import Photo, read_photo

SHARDS = "shards"
REJECTS = "rejects"


@dataclass(frozen=True, slots=True)
class ShardTask:
    """The photos of one shard, to be made by anyone."""

    index: int
    """Position in task order, which is the order of shards in the next snapshot."""
    photos: tuple[Photo, ...]
    digest: str
    """Hex SHA-256 over photos, their sizes and the options."""

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
    )


def task_digest(photos: Sequence[Photo], options: FaceOptions) -> str:
    """Hex SHA-256 over sorted photos, their sizes and the options."""
    digest = hashlib.sha256(options.digest.encode())
    for photo in photos:
        digest.update(f"\n{photo.identity}\0{photo.source}\0{photo.size_bytes}".encode())
    return digest.hexdigest()


def plan_tasks(
    photos: Sequence[Photo], options: FaceOptions, photos_per_shard: int
) -> list[ShardTask]:
    """Cut sorted photos into tasks of equal length, the last one shorter."""
    cuts = range(0, len(photos), photos_per_shard)
    lists = [tuple(photos[start : start + photos_per_shard]) for start in cuts]
    return [
        ShardTask(index, photos, task_digest(photos, options)) for index, photos in enumerate(lists)
    ]


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
        source: folder of identity folders.
        root: the faces root.
        config: how photos become faces.
    """

    def __init__(self, source: Path, root: Path, config: IngestConfig) -> None:
        self._source = source
        self._root = root
        # One CPU an actor: OpenCV's own threads would only compete with the other actors.
        cv2.setNumThreads(1)
        self._detector = make_detector(config)
        self._options = face_options(config, self._detector)

    def ready(self) -> None:
        """Answer once the detector is loaded."""

    def make(self, task: ShardTask) -> ShardSummary:
        """Make the task's shard, or return its summary where it is finished.

        Raises:
            OSError: it cannot be written (disk full, no permission); photos that cannot be read
                are rejects, never errors.
        """
        finished = read_summary(self._root, task.shard)
        if finished is not None:
            return finished
        faces: list[dict[str, Any]] = []
        rejects: list[dict[str, str]] = []
        for photo in task.photos:
            try:
                faces.append(self._face_of(photo))
            except Rejected as error:
                rejects.append(
                    {
                        "source": photo.source,
                        "identity": photo.identity,
                        "reason": str(error.reason),
                        "detail": error.detail,
                    }
                )
        return write_shard(self._root, task, faces, rejects)

    def _face_of(self, photo: Photo) -> dict[str, Any]:
        options = self._options
        raw = read_photo(self._source, photo.source, max_bytes=options.max_file_mib << 20)
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
            "identity": photo.identity,
            "source": photo.source,
            "image": encoded,
            "width": width,
            "height": height,
            "box": face.box,
            "landmarks": face.landmarks,
            "score": face.score,
            "num_faces_in_source": len(detections),
            "source_sha256": hashlib.sha256(raw).hexdigest(),
        }


def write_shard(
    root: Path, task: ShardTask, faces: list[dict[str, Any]], rejects: list[dict[str, str]]
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
