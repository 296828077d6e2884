from __future__ import annotations

import pytest

from facequarry.datasets.synthetic.photo_options import PhotoOptions
from facequarry.datasets.synthetic.photo_plan import PhotoPlan, plan_photo, source_of

_IDENTITIES, _PHOTOS = 40, 25


def _plans(options: PhotoOptions, *, seed: int = 0) -> list[PhotoPlan]:
    return [
        plan_photo(identity, photo, num_identities=_IDENTITIES, options=options, seed=seed)
        for identity in range(1, _IDENTITIES + 1)
        for photo in range(1, _PHOTOS + 1)
    ]


def test_a_plain_set_shows_whom_its_folders_name() -> None:
    for plan in _plans(PhotoOptions()):
        assert plan.shows == plan.identity and plan.copy_of is None
        assert plan.key == (plan.identity, plan.photo)


def test_a_share_of_the_photos_shows_another_person_of_the_set() -> None:
    plans = _plans(PhotoOptions(label_errors=0.1))
    errors = [plan for plan in plans if plan.shows != plan.identity]
    # Four standard deviations of 1,000 draws.
    assert abs(len(errors) / len(plans) - 0.1) < 0.038
    assert all(1 <= plan.shows <= _IDENTITIES for plan in errors)
    assert len({plan.shows for plan in errors}) > _IDENTITIES // 2
    assert len({plan.key for plan in plans}) == len(plans)


def test_a_share_of_all_but_the_first_photos_repeats_an_earlier_original() -> None:
    plans = _plans(PhotoOptions(near_duplicates=0.2))
    by_source = {plan.source: plan for plan in plans}
    copies = [plan for plan in plans if plan.copy_of is not None]
    assert abs(len(copies) / (_IDENTITIES * (_PHOTOS - 1)) - 0.2) < 0.052
    for plan in copies:
        assert plan.copy_of is not None
        original = by_source[source_of(*plan.copy_of)]
        assert original.copy_of is None and original.key == plan.key
        assert original.identity == plan.identity and original.photo < plan.photo


def test_copies_across_identities_are_label_errors_too() -> None:
    plans = _plans(PhotoOptions(near_duplicates=0.2, copies_across=0.5))
    copies = [plan for plan in plans if plan.copy_of is not None]
    across = [plan for plan in copies if plan.copy_of and plan.copy_of[0] != plan.identity]
    assert 0.4 < len(across) / len(copies) < 0.7
    for plan in plans:
        home = plan.identity if plan.copy_of is None else plan.copy_of[0]
        assert plan.shows == home


def test_a_copy_of_a_label_error_shows_whom_its_original_shows() -> None:
    plans = _plans(PhotoOptions(near_duplicates=0.5, label_errors=0.5))
    by_source = {plan.source: plan for plan in plans}
    copies = [plan for plan in plans if plan.copy_of is not None]
    for plan in copies:
        assert plan.copy_of and plan.shows == by_source[source_of(*plan.copy_of)].shows
    assert any(plan.shows != plan.identity for plan in copies)


def test_near_duplicates_are_independent_of_the_number_of_identities() -> None:
    options = PhotoOptions(near_duplicates=0.5)
    for photo in range(1, 30):
        few, many = (
            plan_photo(2, photo, num_identities=number, options=options, seed=1)
            for number in (2, 500)
        )
        assert few == many


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (PhotoOptions(label_errors=0.1), "label_errors"),
        (PhotoOptions(near_duplicates=0.1, copies_across=0.1), "copies_across"),
    ],
)
def test_another_person_of_a_set_of_one_is_refused(options: PhotoOptions, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} needs two identities or more"):
        plan_photo(1, 1, num_identities=1, options=options, seed=0)
