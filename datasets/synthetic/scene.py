"""One synthetic photo before it is drawn: who stands where, worn and held things included.

A photo shows one named person. Bystanders are strangers: nobody of the set, so that the scene
depends on nothing but its own key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from facequarry.datasets.synthetic.canvas import ByteImage
from facequarry.datasets.synthetic.people import Identity, Shot, identity_of, random_shot, rng_of
from facequarry.datasets.synthetic.photo_options import PhotoOptions, dressed
from facequarry.datasets.synthetic.render import head_box, render_group

# Strangers are numbered beyond the identities that a set can have.
_FIRST_STRANGER, _LAST_STRANGER = 1_000_000, 2**31
_MAX_BYSTANDERS = 3
_MIN_HEAD_PX, _MAX_HEAD_PX = 58.0, 120.0  # half heights; dlib's HOG finds faces from 70 px
# In half head heights: room for hair and hats above, for chin and neck below, from ear to ear,
# and from the centre down to the shoulders, which must not hide a face behind them.
_ABOVE, _BELOW, _BESIDE, _SHOULDERS = 1.4, 1.35, 1.0, 1.2

# What the end of a photo's key says its random numbers are for; the portrait has no such end.
_DRESS, _GROUP = 1, 2

Person = tuple[Identity, Shot]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Everything that decides the pixels and the file of one photo."""

    named: Person
    """Who the photo shows."""
    people: tuple[Person, ...]
    """All people from back to front, the named one among them."""
    quality: int
    """Of the JPEG, 0 to 100."""

    @property
    def box(self) -> Box:
        """The loose box round the named person's head: left, top, width, height, px."""
        return head_box(*self.named)

    def draw(self) -> ByteImage:
        """Return the photo, (H, W, 3) uint8, channels blue, green, red."""
        return render_group(self.people, self.named[1])


def make_scene(shows: int, key: tuple[int, ...], options: PhotoOptions, *, seed: int) -> Scene:
    """Return the scene of one photo.

    Args:
        shows: the named person, numbered from 1.
        key: tells this photo from all others of the same seed.
        options: what it may show beyond a portrait.
        seed: of the people and the photos.
    """
    rng = rng_of(seed, *key)
    shot = random_shot(rng)
    quality = int(rng.integers(70, 96))
    people = [(identity_of(shows, seed=seed), shot)]
    group_rng = rng_of(seed, *key, _GROUP)
    if group_rng.uniform() < options.bystanders:
        people += _strangers(group_rng, shot, seed)
        people = _arranged(people, group_rng)
    people = [
        (identity, dressed(each, options, rng_of(seed, *key, index, _DRESS)))
        for index, (identity, each) in enumerate(people)
    ]
    # The largest are nearest to the camera; of equals the first, as `_arranged` has it.
    ordered = sorted(reversed(people), key=lambda person: person[1].head_px)
    return Scene(named=people[0], people=tuple(ordered), quality=quality)


def _strangers(rng: np.random.Generator, shot: Shot, seed: int) -> list[Person]:
    """Draw one to three people under the same lamp."""
    numbers = rng.integers(_FIRST_STRANGER, _LAST_STRANGER, 1 + int(rng.integers(_MAX_BYSTANDERS)))
    return [
        (
            identity_of(int(number), seed=seed),
            replace(random_shot(rng), light=shot.light, ambient=shot.ambient),
        )
        for number in numbers
    ]


def _arranged(people: list[Person], rng: np.random.Generator) -> list[Person]:
    """Give everybody a size and a place of their own in one larger photo; keep the order."""
    first_px = rng.uniform(_MIN_HEAD_PX, 85)
    heads = np.array([first_px, *(first_px * rng.uniform(0.7, 1.5, len(people) - 1))])
    heads = np.clip(heads, _MIN_HEAD_PX, _MAX_HEAD_PX)
    row = rng.permutation(len(people))  # from left to right
    gaps = 1 + rng.uniform(0, 0.25, len(people))
    reach = np.cumsum(2 * _BESIDE * heads[row] * gaps)
    xs = np.empty(len(people))
    xs[row] = reach - _BESIDE * heads[row] * gaps
    width = int(reach[-1])
    height = int(heads.max() * (_ABOVE + _BELOW + rng.uniform(0, 0.6)))
    ys = np.empty(len(people))
    floor = float(height)  # the highest shoulders so far
    for index in np.argsort(-heads, kind="stable"):
        lowest = min(height - _BELOW * heads[index], floor - heads[index])
        highest = _ABOVE * heads[index]
        ys[index] = rng.uniform(min(highest, lowest), lowest)
        floor = min(floor, ys[index] + _SHOULDERS * heads[index])
    return [
        (
            identity,
            replace(shot, width_px=width, height_px=height, head_px=float(head), centre=(x, y)),
        )
        for (identity, shot), head, x, y in zip(
            people, heads, xs.tolist(), ys.tolist(), strict=True
        )
    ]
