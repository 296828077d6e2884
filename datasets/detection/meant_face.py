"""Which of a photo's faces is meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.detection.detection import Detection


def choose(
    detections: Sequence[Detection], given_box: NDArray[np.float32] | None = None
) -> Detection | None:
    """Choose the face that a photo is about.

    Args:
        detections: the photo's faces.
        given_box: (4,) float32, x0 y0 x1 y1, px, where the right face is said to be, or None.

    Returns:
        Without a box the largest face. With one, of the faces that overlap it the one whose centre
        is nearest to the box's; ties go to the larger overlap, the higher score, the upper left.
        None where there is no such face: one that lies beside the box is another person's.
    """
    if given_box is None:
        return largest(detections) if detections else None
    near = [face for face in detections if _overlap(face.box, given_box) > 0]
    return min(
        near,
        key=lambda face: (
            _centre_d2(face.box, given_box),
            -_overlap(face.box, given_box),
            -face.score,
            face.box[1],
            face.box[0],
        ),
        default=None,
    )


def largest(detections: Sequence[Detection]) -> Detection:
    """Return the face with the largest box; ties go to the higher score, then to the upper left.

    Raises:
        BadInput: there is none.
    """
    return max(
        detections,
        key=lambda face: (face.width * face.height, face.score, -face.box[1], -face.box[0]),
    )


def _overlap(box: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the area that two boxes share, px."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = map(float, box), map(float, other)
    return max(0.0, min(x1, u1) - max(x0, u0)) * max(0.0, min(y1, v1) - max(y0, v0))


def _centre_d2(box: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return four times the squared distance of two boxes' centres, px."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = map(float, box), map(float, other)
    return (x0 + x1 - u0 - u1) ** 2 + (y0 + y1 - v0 - v1) ** 2
