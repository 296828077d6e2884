"""What a shard says of the face that was chosen in a photo with several, and of its alignment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from facequarry.datasets.config import MODEL_FILES, IngestConfig
from facequarry.datasets.detection.crop import cut_face
from facequarry.datasets.detection.decode import decode_photo
from facequarry.datasets.detection.detection import Detection
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.faces.jpeg import decode_jpeg
from facequarry.datasets.ingest.shard_maker import ShardMaker
from facequarry.datasets.ingest.shard_tasks import face_options, plan_tasks
from facequarry.datasets.sources.folder import FolderSource
from facequarry.datasets.sources.photos import Photo
from tests.datasets.photos import WHOLE, photos_in, table_of, write_tree


def _make(
    source: Path, root: Path, config: IngestConfig, photos: list[Photo]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of faces and of rejects."""
    (task,) = plan_tasks(table_of(photos), face_options(config, make_detector(config)), 100)
    ShardMaker(FolderSource(source), root, config).make(task)
    folders = (root / "shards", root / "rejects")
    faces, rejects = (
        pq.read_table(folder / f"{task.shard}.parquet").to_pylist() for folder in folders
    )
    return faces, rejects


def test_face_away_from_the_given_box_is_rejected(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"n1": 2})
    inside, beside = photos_in(source)
    photos = [replace(inside, box=(5, 5, 9, 9)), replace(beside, box=(50, 5, 60, 9))]
    faces, rejects = _make(source, tmp_path, WHOLE, photos)
    assert [row["source"] for row in faces] == [inside.source]
    (reject,) = rejects
    assert (reject["source"], reject["reason"]) == (beside.source, "away_from_box")
    assert reject["detail"] == "none of 1 faces overlaps (50.0, 5.0, 60.0, 9.0)"


@pytest.mark.real_data
def test_given_box_chooses_among_the_faces_of_a_group(tmp_path: Path, real_data: Path) -> None:
    model = real_data / "models" / MODEL_FILES["yunet"]
    config = IngestConfig(detector="yunet", detector_model=model, crop_px=112)
    raw = (real_data / "group_photos" / "2007_007763.jpg").read_bytes()
    image = decode_photo(raw, max_pixels=10_000_000)
    found = make_detector(config).detect(image)
    smallest = min(found, key=lambda face: face.width * face.height)
    x0, y0, x1, y1 = (float(value) for value in smallest.box)
    for name in ("n1/1.jpg", "n1/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(raw)
    first, second = photos_in(tmp_path)
    photos = [replace(first, box=(x0 - 2, y0 - 3, x1 + 1, y1 + 4)), second]

    faces, _ = _make(tmp_path, tmp_path / "out", config, photos)

    assert [row["num_faces_in_source"] for row in faces] == [7, 7]
    chosen, largest = (Detection(np.array(row["box"], np.float32), 1.0) for row in faces)
    assert np.array_equal(chosen.box, smallest.box)
    assert largest.width * largest.height == max(face.width * face.height for face in found)
    assert smallest.landmarks is not None
    assert faces[0]["landmarks"] == smallest.landmarks.tolist()
    crop = cut_face(image, smallest, alignment="five-point", crop_px=112, margin_px=0)
    assert cv2.PSNR(decode_jpeg(faces[0]["image"]), crop) > 30


@pytest.mark.real_data
def test_alignment_and_model_are_recorded(real_data: Path) -> None:
    model = real_data / "models" / MODEL_FILES["yunet"]
    config = IngestConfig(detector="yunet", detector_model=model)
    options = face_options(config, make_detector(config)).to_json()
    assert (options["detector"], options["alignment"]) == ("yunet", "five-point")
    assert options["margin_px"] == 0
    recorded = options["detector_options"]
    assert recorded.pop("model_sha256").startswith("8f2383e4dd3cfbb4")
    assert recorded == {"upsample": 1, "min_score": 0.8, "work_px": 320, "nms_iou": 0.3}
    boxed = replace(config, alignment="box")
    assert face_options(boxed, make_detector(boxed)).alignment == "box"
