"""Who is in a synthetic photo and how it was taken, drawn at random.

An `Identity` is a geometry: head, eyes, brows, nose, mouth, hair. A `Shot` is everything that a
photo adds: pose, expression, light, backdrop, camera. Skin and hair colours overlap between
identities and the light varies widely, so that faces must be told apart by shape.

Lengths of a face are in half head heights, x to the right of the picture, y down from the centre
of the head: the chin lies near y = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

Colour = tuple[float, float, float]
"""Blue, green, red, 0..255."""
HairStyle = Literal["cropped", "quiff", "parted", "fringe", "bob", "long", "curly", "receding"]
Glasses = Literal["thick", "square", "sun"]
Hat = Literal["beanie", "cap", "brimmed"]
Beard = Literal["full", "goatee"]
Blur = Literal["focus", "motion"]
Occluder = Literal["mask", "scarf", "hand", "phone"]

_MIN_SIDE_PX, _MAX_SIDE_PX = 170, 250

# Blue, green, red. Few and close: colour is a hint about the identity, never a proof.
_SKINS = (
    (162, 188, 228),
    (148, 176, 220),
    (132, 164, 212),
    (112, 146, 198),
    (92, 124, 176),
    (68, 96, 146),
    (56, 80, 126),
)
_HAIRS = ((34, 32, 36), (36, 44, 60), (38, 56, 88), (44, 78, 116), (76, 124, 166), (118, 122, 128))
_IRISES = ((46, 66, 96), (40, 52, 72), (92, 116, 92), (148, 120, 84), (120, 116, 108))

_HAIR_STYLES: tuple[HairStyle, ...] = get_args(HairStyle)


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What stays the same in every photo of one person; lengths in half head heights."""

    skin: Colour
    hair: Colour
    iris: Colour
    width: float  # half the width of the head
    cheek: float  # width at the cheekbones over `width`
    jaw: float  # width at the corners of the jaw over `width`
    chin_width: float
    chin_y: float
    eye_x: float  # half the distance between the pupils
    eye_y: float
    eye_width: float  # half the width of one eye
    eye_height: float  # half its opening over `eye_width`
    eye_tilt: float  # radians, positive lifts the outer corners
    iris_size: float  # radius over `eye_width`
    brow_gap: float  # from the eye's centre up to the brow
    brow_thickness: float
    brow_arch: float
    brow_tilt: float  # positive lifts the outer ends
    nose_y: float  # of the base
    nose_width: float  # half the width at the nostrils
    nose_height: float  # how far the ridge stands out
    mouth_y: float
    mouth_width: float  # half
    upper_lip: float
    lower_lip: float
    lip_redness: float  # 0..1
    socket: float  # depth of the eye sockets, 0..1
    cheekbone: float  # 0..1
    ear_size: float
    hair_style: HairStyle
    hair_line: float  # y of the forehead's upper edge
    hair_volume: float
    hair_length: float  # y where long hair ends
    parting: float  # x, -1..1
    beard: float  # 0 shaven .. 1 full
    moustache: float  # 0 none .. 1 thick
    freckles: tuple[tuple[float, float], ...]
    mole: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Extras:
    """What a person wears or holds in one photo, beyond the plain portrait, and a shaken camera."""

    glasses: Glasses | None = None
    hat: Hat | None = None
    beard: Beard | None = None
    occluder: Occluder | None = None
    hat_colour: Colour = (0.0, 0.0, 0.0)
    occluder_colour: Colour = (0.0, 0.0, 0.0)
    side: float = 1.0  # 1 or -1: from which side a hand or a phone comes
    blur: Blur | None = None
    motion_px: tuple[float, float] = (0.0, 0.0)  # how far the camera moved, x and y


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """What changes from photo to photo; angles in radians, lengths in photo pixels."""

    height_px: int
    width_px: int
    head_px: float  # half the height of the head
    centre: tuple[float, float]  # of the head, x and y
    roll: float
    yaw: float
    pitch: float
    light: tuple[float, float, float]  # unit vector towards the lamp, face axes
    ambient: float  # share of light that comes from everywhere, 0..1
    gain: Colour  # colour and strength of the light, 1 is neutral
    smile: float  # -0.4 sad .. 1 broad
    mouth_open: float  # 0..1
    brow_raise: float  # -1..1
    eye_open: float  # 1 is the identity's own opening
    gaze: tuple[float, float]  # -1..1
    glasses: bool
    clothes: Colour
    backdrop: tuple[Colour, Colour]  # two ends of a gradient
    clutter: float  # 0 plain .. 1 busy
    blur_px: float  # standard deviation
    noise: float  # standard deviation, grey levels
    seed: int  # of backdrop texture and sensor noise
    extras: Extras = Extras()


def identity_of(identity: int, *, seed: int = 0) -> Identity:
    """Return the geometry of one identity, numbered from 1."""
    return random_identity(rng_of(seed, identity))


def rng_of(seed: int, *key: int) -> np.random.Generator:
    """Return the random numbers of one purpose; other keys give independent ones."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def random_identity(rng: np.random.Generator) -> Identity:
    """Draw a person. The ranges are wide for shapes and narrow for colours."""
    u = rng.uniform
    style = _HAIR_STYLES[int(rng.integers(len(_HAIR_STYLES)))]
    width = u(0.64, 0.84)
    eye_width = u(0.12, 0.195)
    nose_y = u(0.27, 0.45)
    chin_y = u(0.93, 1.08)
    bearded = style not in ("bob", "long") and u() < 0.3
    freckled = u() < 0.15
    return Identity(
        skin=_blend(rng, _SKINS, 4),
        hair=_blend(rng, _HAIRS, 4),
        iris=_blend(rng, _IRISES, 8),
        width=width,
        cheek=u(0.94, 1.05),
        jaw=u(0.64, 0.98),
        chin_width=u(0.15, 0.45),
        chin_y=chin_y,
        eye_x=width * u(0.41, 0.55),
        eye_y=u(-0.07, 0.05),
        eye_width=eye_width,
        eye_height=u(0.3, 0.72),
        eye_tilt=math.radians(u(-13, 15)),
        iris_size=u(0.42, 0.54),
        brow_gap=u(0.15, 0.28),
        brow_thickness=u(0.03, 0.13),
        brow_arch=u(-0.01, 0.09),
        brow_tilt=u(-0.1, 0.11),
        nose_y=nose_y,
        nose_width=u(0.09, 0.21),
        nose_height=u(0.12, 0.24),
        mouth_y=nose_y + u(0.18, 0.28),
        mouth_width=u(0.18, 0.36),
        upper_lip=u(0.02, 0.09),
        lower_lip=u(0.03, 0.12),
        lip_redness=u(0.2, 1),
        socket=u(0, 1),
        cheekbone=u(0, 1),
        ear_size=u(0.13, 0.22),
        hair_style=style,
        hair_line=u(-0.66, -0.48),
        hair_volume=u(0.05, 0.24),
        hair_length=u(0.75, 1.4),
        parting=u(-0.6, 0.6),
        beard=u(0.4, 1) if bearded else 0.0,
        moustache=u(0.2, 1) if bearded and u() < 0.6 else 0.0,
        freckles=tuple((u(-0.5, 0.5) * width, u(0.1, 0.34)) for _ in range(14 * freckled)),
        mole=(u(-0.6, 0.6) * width, u(0.2, 0.7)) if u() < 0.25 else None,
    )


def random_shot(rng: np.random.Generator) -> Shot:
    """Draw what one photo adds: pose, expression, light, backdrop and camera."""
    u = rng.uniform
    height, width = (int(side) for side in rng.integers(_MIN_SIDE_PX, _MAX_SIDE_PX, 2))
    head = u(0.33, 0.4) * min(height, width * 1.1)
    side, above = math.radians(u(-55, 55)), math.radians(u(0, 50))
    light = (math.sin(side) * math.cos(above), -math.sin(above), math.cos(side) * math.cos(above))
    # Lamps differ along blue to red far more than along green to magenta.
    warmth = rng.normal(0, 0.1)
    gain = as_colour(np.exp(rng.normal(0, 0.18) + rng.normal(0, 0.03, 3) + (-warmth, 0, warmth)))
    first = np.clip(u(40, 215) + rng.normal(0, 24, 3), 10, 245)
    second = np.clip(first + rng.normal(0, 30) + rng.normal(0, 18, 3), 10, 245)
    return Shot(
        height_px=height,
        width_px=width,
        head_px=head,
        centre=(width * (0.5 + u(-0.06, 0.06)), height * (0.49 + u(-0.05, 0.05))),
        roll=math.radians(np.clip(rng.normal(0, 4), -10, 10)),
        yaw=math.radians(np.clip(rng.normal(0, 7), -16, 16)),
        pitch=math.radians(np.clip(rng.normal(0, 4), -9, 9)),
        light=light,
        ambient=u(0.38, 0.68),
        gain=gain,
        smile=float(np.clip(rng.normal(0.25, 0.35), -0.4, 1)),
        mouth_open=float(np.clip(rng.normal(-0.1, 0.4), 0, 1)),
        brow_raise=u(-0.6, 0.8),
        eye_open=u(0.78, 1.12),
        gaze=(u(-0.8, 0.8), u(-0.5, 0.5)),
        glasses=bool(u() < 0.08),
        clothes=as_colour(np.clip(u(30, 190) + rng.normal(0, 40, 3), 5, 230)),
        backdrop=(as_colour(first), as_colour(second)),
        clutter=u(0, 1),
        blur_px=u(0, 1.1),
        noise=u(0.5, 5),
        seed=int(rng.integers(2**32)),
    )


def _blend(rng: np.random.Generator, palette: tuple[Colour, ...], spread: float) -> Colour:
    """A colour between two neighbours of the palette, plus a little of its own."""
    index = int(rng.integers(len(palette) - 1))
    first, second = np.array(palette[index]), np.array(palette[index + 1])
    mixed = first + (second - first) * rng.uniform() + rng.normal(0, spread, 3)
    return as_colour(np.clip(mixed, 5, 250))


def as_colour(values: ArrayLike) -> Colour:
    """Return three numbers as plain floats."""
    blue, green, red = np.asarray(values, np.float64).tolist()
    return blue, green, red
