"""YuNet: a small CNN that finds faces and five landmarks, run by OpenCV.

Source: Wu, Peng, Yu: YuNet: A Tiny Millisecond-level Face Detector (Machine Intelligence Research,
2023).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.config import MODEL_FILES
from facequarry.datasets.detection.detection import Detection
from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.model_file import read_model, wrong_model
from facequarry.datasets.faces.jpeg import RgbImage

# At 320 px a face may fill the photo or be a thirteenth of its side. At 640 px, four times slower,
# a quarter of the faces that fill a photo score below 0.8.
_WORK_PX = 320
_NMS_IOU = 0.3
_TOP_K = 5000
_OUTPUTS = tuple(
    f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)
)


class YuNet:
    """OpenCV's YuNet: faces in most poses, with landmarks.

    A photo is searched with its longer side at 320 px, or as it is where that is shorter, and at
    double that size only where nothing was found.

    Args:
        model: path of face_detection_yunet_2023mar.onnx.
        upsample: how many doublings are tried at most.
        min_score: lowest score of a face, 0..1.

    Raises:
        NotFound: there is no such file.
        BadInput: it is no model of this detector, or OpenCV cannot run it.
    """

    name = "yunet"

    def __init__(self, model: Path, upsample: int, min_score: float) -> None:
        expected = MODEL_FILES["yunet"]
        if not hasattr(cv2, "FaceDetectorYN"):
            raise BadInput(
                f"OpenCV {cv2.__version__} has no FaceDetectorYN for detector yunet; "
                "try: pip install 'opencv-python-headless>=4.10'"
            )
        raw = read_model(model, detector=self.name, expected=expected)
        # OpenCV runs any network here and reads beyond the outputs of a wrong one.
        missing = [name for name in _OUTPUTS if _onnx_name(name) not in raw]
        if missing:
            raise wrong_model(model, self.name, expected, f"it has no output {missing[0]}")
        self._upsample = upsample
        self.options: dict[str, int | float | str] = {
            "model_sha256": hashlib.sha256(raw).hexdigest(),
            "upsample": upsample,
            "min_score": min_score,
            "work_px": _WORK_PX,
            "nms_iou": _NMS_IOU,
        }
        try:
            with _quiet_opencv():
                self._detector = _load(raw, min_score)
                self._search(np.zeros((_WORK_PX, _WORK_PX, 3), np.uint8), (_WORK_PX, _WORK_PX))
        except cv2.error as error:
            cause = " ".join(str(error).split())
            raise wrong_model(model, self.name, expected, f"OpenCV says {cause!r}") from error

    def detect(self, image: RgbImage) -> list[Detection]:
        """Find faces and their landmarks."""
        height, width = image.shape[:2]
        first = min(1.0, _WORK_PX / max(width, height))
        for doublings in range(self._upsample + 1):
            scale = first * 2**doublings
            found = self._search(
                image, (max(1, round(width * scale)), max(1, round(height * scale)))
            )
            if found.size:
                return [_detection(row) for row in found]
        return []

    def _search(self, image: RgbImage, size: tuple[int, int]) -> NDArray[np.float32]:
        """Search at one size, (columns, rows); return (N, 15) float32 in px of the photo.

        A row is x, y, width, height, five x y pairs, score.
        """
        height, width = image.shape[:2]
        how = cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR
        shown = image if size == (width, height) else cv2.resize(image, size, interpolation=how)
        self._detector.setInputSize(size)
        bgr = cv2.cvtColor(shown, cv2.COLOR_RGB2BGR)
        # OpenCV's stubs do not know that nothing found is None.
        found: Any = self._detector.detect(bgr)[1]
        if found is None:
            return np.empty((0, 15), np.float32)
        to_photo = np.array((width / size[0], height / size[1]) * 7 + (1.0,), np.float32)
        return np.asarray(found * to_photo, np.float32)


def _load(raw: bytes, min_score: float) -> cv2.FaceDetectorYN:
    model, no_config = np.frombuffer(raw, np.uint8), np.empty(0, np.uint8)
    size = (_WORK_PX, _WORK_PX)
    return cv2.FaceDetectorYN.create("onnx", model, no_config, size, min_score, _NMS_IOU, _TOP_K)


def _detection(row: NDArray[np.float32]) -> Detection:
    box = np.concatenate((row[:2], row[:2] + row[2:4]))
    # YuNet names the person's right eye and mouth corner first: the left ones of the picture.
    return Detection(box, float(row[14]), row[4:14].copy())


def _onnx_name(name: str) -> bytes:
    """Return a graph output's name as ONNX writes it: field 1, length, text."""
    return bytes((0x0A, len(name))) + name.encode()


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from printing what it thinks of a model; what matters is an error."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
