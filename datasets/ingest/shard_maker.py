"""One list of photos to one shard: plain Python, run by a Ray actor or by a test.

A shard's name and its bytes follow from its photos and options alone, so it does not matter who
makes it, when, or how often it was begun.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.crop import cut_face
from facequarry.datasets.detection.decode import decode_photo
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.detection.meant_face import choose
from facequarry.datasets.disk.publish import (
    staged_file,
)
from facequarry.datasets.faces.jpeg import encode_jpeg
from facequarry.datasets.faces.schema import (
    Reason,
    Rejected,
)
from facequarry.datasets.faces.shards import SHARDS, ShardSummary, read_summary, write_shard
from facequarry.datasets.ingest.shard_tasks import ShardTask, face_options
from facequarry.datasets.sources.photos import Photo, Source


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
        summary = write_shard(self._root, task.digest, faces, rejects)
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


def in_hand_path(root: Path, shard: str) -> Path:
    """File with the source that a careful maker is looking at."""
    return root / SHARDS / f"{shard}.in-hand"
