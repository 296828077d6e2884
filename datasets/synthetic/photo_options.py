"""What synthetic photos show beyond plain portraits, asked for as shares and drawn for each photo.

Every photo draws all of its chances in a fixed order: raising one share adds that extra to more
photos and changes nothing else about any photo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TypeVar, get_args

import numpy as np

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.synthetic.people import (
    Beard,
    Blur,
    Extras,
    Glasses,
    Hat,
    Occluder,
    Shot,
    as_colour,
)

T = TypeVar("T")

_MASKS = ((224, 196, 150), (236, 236, 236), (46, 42, 44))  # light blue, white, black
_MIN_PROFILE_YAW, _MAX_PROFILE_YAW = math.radians(25), math.radians(45)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoOptions:
    """Shares, 0 to 1, of the photos that show something beyond a plain portrait."""

    glasses: float = 0.0
    """Share with thick, square or dark glasses; of the others, 8 % have thin ones in any case."""
    hats: float = 0.0
    """Share with a beanie, a cap or a brimmed hat."""
    beards: float = 0.0
    """Share with a full beard or a goatee, whatever the person looks like otherwise."""
    occluded: float = 0.0
    """Share with a mask, a scarf, a hand or a phone before the face."""
    blurred: float = 0.0
    """Share out of focus or taken with a shaking camera."""
    profile: float = 0.0
    """Share with the head turned by 25 to 45 degrees."""
    bystanders: float = 0.0
    """Share with one to three strangers beside the named person, some of them larger."""
    label_errors: float = 0.0
    """Share that shows another person of the set than the folder says; who it is depends on
    `num_identities`."""
    near_duplicates: float = 0.0
    """Share, of all but an identity's first photo, that repeats an earlier photo: encoded again,
    half of them shifted and scaled a little too."""
    copies_across: float = 0.0
    """Share of the near-duplicates whose original lies in another identity's folder; they add to
    the label errors, and which photo is repeated depends on `num_identities`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            share = getattr(self, field.name)
            if not 0 <= share <= 1:
                raise BadInput(f"{field.name} is {share}, expected a share in 0 to 1")


def dressed(shot: Shot, options: PhotoOptions, rng: np.random.Generator) -> Shot:
    """Return a shot with the extras that this photo draws; all shares 0 return it as it is."""
    glasses = _by_chance(rng, options.glasses, get_args(Glasses))
    hat = _by_chance(rng, options.hats, get_args(Hat))
    beard = _by_chance(rng, options.beards, get_args(Beard))
    occluder = _by_chance(rng, options.occluded, get_args(Occluder))
    blur = _by_chance(rng, options.blurred, get_args(Blur))
    turn = _by_chance(rng, options.profile, (-1.0, 1.0))
    u = rng.uniform
    yaw = u(_MIN_PROFILE_YAW, _MAX_PROFILE_YAW)
    # A blur is as strong as the face is large.
    focus_px = shot.head_px * u(0.028, 0.055)
    way, angle = shot.head_px * u(0.1, 0.2), u(0, math.pi)
    hat_colour = as_colour(np.clip(u(30, 170) + rng.normal(0, 40, 3), 15, 220))
    cloth = as_colour(np.clip(u(40, 190) + rng.normal(0, 45, 3), 15, 225))
    mask = as_colour(_MASKS[int(rng.integers(len(_MASKS)))])
    case = as_colour(np.clip(u(20, 90) + rng.normal(0, 12, 3), 10, 200))
    extras = Extras(
        glasses=glasses,
        hat=hat,
        beard=beard,
        occluder=occluder,
        hat_colour=hat_colour if hat else as_colour((0, 0, 0)),
        occluder_colour={None: as_colour((0, 0, 0)), "mask": mask, "phone": case}.get(
            occluder, cloth
        ),
        side=-1.0 if u() < 0.5 else 1.0,
        blur=blur,
        motion_px=(way * math.cos(angle), way * math.sin(angle)) if blur == "motion" else (0, 0),
    )
    return replace(
        shot,
        yaw=shot.yaw if turn is None else turn * yaw,
        blur_px=focus_px if blur == "focus" else shot.blur_px,
        extras=extras,
    )


def _by_chance(rng: np.random.Generator, share: float, kinds: tuple[T, ...]) -> T | None:
    """Return one of the kinds in a share of the calls; draws twice in any case."""
    chance, kind = rng.uniform(), kinds[int(rng.integers(len(kinds)))]
    return kind if chance < share else None
