from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facequarry.datasets.detection.detection import Detection
from facequarry.datasets.detection.meant_face import choose


def _face(x0: float, y0: float, x1: float, y1: float, score: float = 1.0) -> Detection:
    return Detection(np.array((x0, y0, x1, y1), np.float32), score)


def _box(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


# Few values, so that ties and touching edges are common.
_edges = st.integers(-3, 8)
_boxes = st.tuples(_edges, _edges, st.integers(1, 6), st.integers(1, 6)).map(
    lambda b: (b[0] / 2, b[1] / 2, (b[0] + b[2]) / 2, (b[1] + b[3]) / 2)
)
_faces = st.lists(
    st.builds(
        lambda box, score: Detection(_box(*box), score), _boxes, st.sampled_from((0.5, 0.75))
    ),
    max_size=6,
)


def _plainly(faces: list[Detection], given: tuple[float, ...]) -> Detection | None:
    """Compare face by face in exact numbers."""
    best: tuple[Fraction, ...] | None = None
    chosen = None
    u0, v0, u1, v1 = map(Fraction, given)
    for face in faces:
        x0, y0, x1, y1 = (Fraction(float(value)) for value in face.box)
        shared = [min(x1, u1) - max(x0, u0), min(y1, v1) - max(y0, v0)]
        if shared[0] <= 0 or shared[1] <= 0:
            continue
        across, down = (x0 + x1) / 2 - (u0 + u1) / 2, (y0 + y1) / 2 - (v0 + v1) / 2
        rank = (across**2 + down**2, -shared[0] * shared[1], -Fraction(face.score), y0, x0)
        if best is None or rank < best:
            best, chosen = rank, face
    return chosen


@given(_faces, _boxes)
def test_face_nearest_to_the_given_box_is_chosen(
    faces: list[Detection], given_box: tuple[float, ...]
) -> None:
    assert choose(faces, _box(*given_box)) is _plainly(faces, given_box)


@given(_faces)
def test_without_a_box_the_largest_is_chosen(faces: list[Detection]) -> None:
    chosen = choose(faces)
    if chosen is None:
        assert faces == []
    else:
        areas = [face.width * face.height for face in faces]
        assert chosen.width * chosen.height == max(areas)


@given(_faces, _boxes)
def test_order_of_detections_does_not_matter(
    faces: list[Detection], given_box: tuple[float, ...]
) -> None:
    for box in (None, _box(*given_box)):
        one, other = choose(faces, box), choose(faces[::-1], box)
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert (one.box.tolist(), one.score) == (other.box.tolist(), other.score)


def test_nearer_small_face_wins_over_a_larger_one() -> None:
    large, small = _face(0, 0, 60, 60), _face(70, 10, 90, 30)
    assert choose([large, small], _box(50, 5, 100, 40)) is small


def test_face_beside_the_given_box_is_another_persons() -> None:
    assert choose([_face(0, 0, 10, 10)], _box(10, 0, 20, 10)) is None
    assert choose([_face(0, 0, 10, 10)], _box(5, 5, 5, 5)) is None
    assert choose([], _box(0, 0, 1, 1)) is None
