"""What each detector costs and finds: photos a second and core, and photos with a face.

Decoded photos go through the detectors one after another, photo by photo, so that other load falls
on all. Speed is photos by CPU second, whatever threads a library starts; decoding, cropping and
encoding are left out. A detector whose model file is absent is left out with a line that says so.

    python -m benchmarks.faces.detectors
    python -m benchmarks.faces.detectors --photos PHOTOS --models MODELS
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from benchmarks.common import REAL_DATA, show, write_photos
from facequarry.datasets.config import MODEL_FILES, DetectorName, IngestConfig
from facequarry.datasets.detection.decode import decode_photo
from facequarry.datasets.detection.detection import Detector
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.faces.jpeg import RgbImage

NUM_PHOTOS: dict[DetectorName, int] = {"dlib-hog": 1000, "yunet": 1000, "dlib-mmod": 50}
_MAX_PIXELS = 64_000_000


@dataclass(slots=True)
class Row:
    """What one detector did so far."""

    photos: int = 0
    with_face: int = 0
    cpu_s: float = 0.0


def measure(source: Path, detectors: dict[DetectorName, Detector]) -> dict[DetectorName, Row]:
    """Run each detector over its share of the photos."""
    photos = sorted(source.glob("*/*.jpg"))
    rows = {name: Row() for name in detectors}
    wanted = max(NUM_PHOTOS[name] for name in detectors)
    chosen = _spread(photos, wanted)
    for number, photo in enumerate(chosen):
        image = decode_photo(photo.read_bytes(), max_pixels=_MAX_PIXELS)
        for detector_name, detector in detectors.items():
            every = max(1, len(chosen) // NUM_PHOTOS[detector_name])
            if number % every == 0:
                _look(detector, image, rows[detector_name])
    return rows


def _look(detector: Detector, image: RgbImage, row: Row) -> None:
    began = time.process_time()
    found = detector.detect(image)
    row.cpu_s += time.process_time() - began
    row.photos += 1
    row.with_face += bool(found)


def _spread(photos: Sequence[Path], count: int) -> list[Path]:
    count = min(count, len(photos))
    return [photos[number * len(photos) // count] for number in range(count)]


def make_detectors(models: Path) -> tuple[dict[DetectorName, Detector], list[str]]:
    """Return the detectors that can run, and a line for each that cannot."""
    detectors: dict[DetectorName, Detector] = {}
    left_out: list[str] = []
    for name in NUM_PHOTOS:
        model = models / MODEL_FILES[name] if name in MODEL_FILES else None
        if model is not None and not model.is_file():
            left_out.append(f"{name} is left out: no model file {model}; name its folder: --models")
        else:
            detectors[name] = make_detector(IngestConfig(detector=name, detector_model=model))
    return detectors, left_out


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faces.detectors")
    lfw = REAL_DATA / "lfw_devtrain" / "images"
    parser.add_argument("--photos", type=Path, default=lfw if lfw.is_dir() else None)
    parser.add_argument("--models", type=Path, default=REAL_DATA / "models")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    detectors, left_out = make_detectors(options.models)
    with tempfile.TemporaryDirectory() as folder:
        source = options.photos or write_photos(Path(folder), NUM_PHOTOS["dlib-hog"])
        rows = measure(source, detectors)
    show(
        f"detectors on {'the photos given' if options.photos else 'synthetic photos'}, CPU time",
        ("detector", "photos", "photos/s and core", "photos with a face"),
        [
            (
                name,
                str(row.photos),
                f"{row.photos / row.cpu_s:.1f}",
                f"{100 * row.with_face / row.photos:.1f} %",
            )
            for name, row in rows.items()
        ],
        left_out,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
