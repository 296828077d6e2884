from __future__ import annotations

import numpy as np

from facequarry.datasets.synthetic.people import identity_of
from facequarry.datasets.synthetic.photo_options import PhotoOptions
from facequarry.datasets.synthetic.scene import Scene, make_scene

_NUM_SCENES = 150


def _scenes(bystanders: float, **shares: float) -> list[Scene]:
    options = PhotoOptions(bystanders=bystanders, **shares)
    return [
        make_scene(number, (number, 1), options, seed=6) for number in range(1, 1 + _NUM_SCENES)
    ]


def test_a_share_of_the_photos_has_one_to_three_bystanders() -> None:
    counts = [len(scene.people) - 1 for scene in _scenes(0.4)]
    # Four standard deviations of 150 draws.
    assert abs(np.mean(np.array(counts) > 0) - 0.4) < 0.16
    assert set(counts) == {0, 1, 2, 3}


def test_the_named_person_is_among_the_people_and_the_others_are_strangers() -> None:
    known = [identity_of(number, seed=6) for number in range(1, 1 + _NUM_SCENES)]
    for number, scene in enumerate(_scenes(1.0)):
        assert scene.named in scene.people and scene.named[0] == known[number]
        assert sum(identity in known for identity, _ in scene.people) == 1


def test_bystanders_are_larger_in_some_photos_and_stand_on_either_side() -> None:
    is_larger, is_left = [], []
    for scene in _scenes(1.0):
        head, x = scene.named[1].head_px, scene.named[1].centre[0]
        is_larger.append(max(shot.head_px for _, shot in scene.people) > head)
        is_left.append(min(shot.centre[0] for _, shot in scene.people) < x)
    assert 0.3 < np.mean(is_larger) < 0.95 and 0.3 < np.mean(is_left) < 0.95


def test_heads_lie_in_the_photo_beside_each_other_above_all_nearer_shoulders() -> None:
    for scene in _scenes(1.0):
        places = [(shot.head_px, *shot.centre) for _, shot in scene.people]
        camera = scene.named[1]
        assert {(shot.width_px, shot.height_px) for _, shot in scene.people} == {
            (camera.width_px, camera.height_px)
        }
        assert [head for head, _, _ in places] == sorted(head for head, _, _ in places)
        for index, (head, x, y) in enumerate(places):
            assert 0.85 * head <= x <= camera.width_px - 0.85 * head
            assert head <= y <= camera.height_px - head
            for nearer, other_x, other_y in places[index + 1 :]:
                assert abs(x - other_x) >= 0.99 * (head + nearer)
                assert y + head <= other_y + 1.2 * nearer + 1


def test_the_box_is_loose_round_the_head_and_holds_nobody_elses_centre() -> None:
    for scene in _scenes(1.0, profile=0.4):
        shot = scene.named[1]
        left, top, width, height = scene.box
        assert left < shot.centre[0] < left + width and top < shot.centre[1] < top + height
        assert 1.1 * shot.head_px < width < 2.6 * shot.head_px
        assert 1.8 * shot.head_px < height < 3.0 * shot.head_px
        for _, other in scene.people:
            is_inside = left < other.centre[0] < left + width
            assert other == shot or not is_inside


def test_another_key_is_another_photo_of_the_same_person() -> None:
    first, second = (make_scene(3, (3, photo), PhotoOptions(), seed=0) for photo in (1, 2))
    assert first.named[0] == second.named[0] and first.named[1] != second.named[1]
