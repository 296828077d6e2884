from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.datasets.synthetic.people import Shot, random_shot, rng_of
from facequarry.datasets.synthetic.photo_options import PhotoOptions, dressed

_NAMES = [field.name for field in fields(PhotoOptions)]
_NUM_DRAWS = 600


def _shots(options: PhotoOptions) -> list[Shot]:
    plain = random_shot(rng_of(0, 1))
    return [dressed(plain, options, rng_of(0, number)) for number in range(_NUM_DRAWS)]


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("share", [-0.01, 1.01, math.nan])
def test_a_share_out_of_range_is_refused_by_name(name: str, share: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} is .*, expected a share in 0 to 1$"):
        PhotoOptions(**{name: share})


def test_no_share_is_no_change() -> None:
    plain = random_shot(rng_of(0, 1))
    assert dressed(plain, PhotoOptions(), rng_of(0, 2)) == plain


@pytest.mark.parametrize(
    ("name", "what"),
    [("glasses", "glasses"), ("hats", "hat"), ("beards", "beard"), ("occluded", "occluder")],
)
def test_a_share_of_the_photos_gets_an_extra_of_every_kind(name: str, what: str) -> None:
    kinds = [getattr(shot.extras, what) for shot in _shots(PhotoOptions(**{name: 0.3}))]
    worn = [kind for kind in kinds if kind is not None]
    # Four standard deviations of 600 draws.
    assert abs(len(worn) / _NUM_DRAWS - 0.3) < 0.075
    counts = [worn.count(kind) for kind in set(worn)]
    assert len(counts) >= 2 and min(counts) > 0.6 * max(counts)


def test_a_share_of_the_photos_is_blurred_or_turned() -> None:
    shots = _shots(PhotoOptions(blurred=0.3, profile=0.3))
    plain = random_shot(rng_of(0, 1))
    blurred = [shot for shot in shots if shot.extras.blur]
    assert abs(len(blurred) / _NUM_DRAWS - 0.3) < 0.075
    for shot in blurred:
        moved_px = np.hypot(*shot.extras.motion_px)
        assert (moved_px > 5) == (shot.extras.blur == "motion")
        assert (shot.blur_px > 1.5) == (shot.extras.blur == "focus")
    turned = [shot.yaw for shot in shots if shot.yaw != plain.yaw]
    assert abs(len(turned) / _NUM_DRAWS - 0.3) < 0.075
    assert np.all((np.abs(np.degrees(turned)) >= 25) & (np.abs(np.degrees(turned)) <= 45))
    assert 0.35 < np.mean(np.array(turned) > 0) < 0.65


@given(
    shares=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    raised=st.sampled_from(["glasses", "hats", "beards", "occluded", "blurred", "profile"]),
    number=st.integers(0, 1000),
)
def test_raising_one_share_only_adds_that_extra(
    shares: list[float], raised: str, number: int
) -> None:
    names = ["glasses", "hats", "beards", "occluded", "blurred", "profile"]
    options = PhotoOptions(**dict(zip(names, shares, strict=True)))
    more = replace(options, **{raised: 1.0})
    plain = random_shot(rng_of(0, 1))
    before, after = (dressed(plain, each, rng_of(0, number)) for each in (options, more))
    own = {"glasses": "glasses", "hats": "hat", "beards": "beard", "occluded": "occluder"}
    for name, what in own.items():
        had, has = getattr(before.extras, what), getattr(after.extras, what)
        assert had == has or (name == raised and had is None)
    assert before.yaw == after.yaw or raised == "profile"
    assert before.extras.blur == after.extras.blur or raised == "blurred"
