"""What people wear and what gets in the way: glasses, hats, beards, masks, scarves, hands, phones.

Shapes are in face coordinates (see `synthetic.people`) and are drawn onto a `Canvas` in an order
that `synthetic.render` decides.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from facequarry.datasets.synthetic.canvas import Canvas, FloatArray, disc, mirrored, rounded, scaled
from facequarry.datasets.synthetic.people import Colour, Extras, Glasses, Identity

_FRAME = (30.0, 26.0, 30.0)


def under_hat(identity: Identity) -> Identity:
    """Return the identity with its hair pressed down."""
    tall = identity.hair_style in ("quiff", "curly")
    return replace(
        identity,
        hair_style="cropped" if tall else identity.hair_style,
        hair_volume=min(identity.hair_volume, 0.06),
    )


def draw_beard(canvas: Canvas, identity: Identity, extras: Extras) -> None:
    """Draw a beard; the mouth is drawn over it."""
    width, chin, mouth = identity.width, identity.chin_y, identity.mouth_width
    if extras.beard is None:
        return
    top = 0.5 * (identity.nose_y + identity.mouth_y - identity.upper_lip)
    right = [(0.0, top), (mouth + 0.05, identity.mouth_y - 0.06)]
    if extras.beard == "full":
        right += [(0.62 * width, 0.5), (0.88 * width, 0.16), (0.98 * width, 0.12)]
        right += [(0.98 * identity.cheek * width, 0.36), (1.02 * identity.jaw * width, 0.74 * chin)]
        right += [(1.2 * identity.chin_width, 1.08 * chin), (0, 1.14 * chin)]
    else:
        right += [(mouth + 0.07, identity.mouth_y + 0.08), (0.9 * identity.chin_width, 0.98 * chin)]
        right += [(0.5 * identity.chin_width, 1.09 * chin), (0, 1.1 * chin)]
    shape = rounded(mirrored(right))
    canvas.fill(shape, scaled(identity.hair, 0.8), _hugging(identity, shape))
    # Short strands, denser than they are long, that run down and outwards.
    for index, tone in zip(range(90), (0.62, 1.05, 0.75, 0.95, 0.7) * 18, strict=True):
        x = (2 * ((index * 0.618) % 1) - 1) * 0.92 * width
        y = top + (chin - top) * ((index * 0.755) % 1)
        strand = np.array([(x, y), (1.04 * x, y + 0.09)])
        if _holds(shape, strand):
            relief = _hugging(identity, strand)
            canvas.stroke(strand, scaled(identity.hair, tone), 0.022, relief=relief)


def draw_glasses(canvas: Canvas, identity: Identity, style: Glasses) -> None:
    """Draw glasses of one style; sunglasses hide the eyes."""
    half = 1.3 * identity.eye_width
    high = 0.8 * half if style == "square" else 0.92 * half
    thickness = {"thick": 0.06, "square": 0.042, "sun": 0.04}[style]
    y = identity.eye_y + 0.03
    for side in (-1.0, 1.0):
        x = side * identity.eye_x
        lens = disc(x, y, half, high)
        if style == "square":
            box = [(-half, -high), (half, -high), (0.94 * half, high), (-0.94 * half, high)]
            lens = _with_round_corners(np.array(box)) * (side, 1) + (x, y)
        if style == "sun":
            canvas.fill(lens, (34.0, 26.0, 24.0), 1.1)
            gleam = np.array([(x - 0.45 * half, y - 0.5 * high), (x + 0.1 * half, y - 0.62 * high)])
            canvas.stroke(gleam, (116.0, 104.0, 98.0), 0.035, relief=1.1)
        canvas.stroke(lens, _FRAME, thickness, relief=1.1, closed=True)
        if side != canvas.far_side:
            reach = np.linspace(side * (identity.eye_x + half), side * 1.02 * identity.width, 5)
            temple = np.stack([reach, np.linspace(y - 0.3 * high, y - 0.01, 5)], axis=1)
            canvas.stroke(temple, _FRAME, thickness, relief=np.linspace(1, 0.3, 5))
    gap = max(identity.eye_x - half, 0.03)
    bridge = np.array([(-gap, y - 0.02), (0, y - 0.06), (gap, y - 0.02)])
    canvas.stroke(bridge, _FRAME, thickness, relief=1.1)


def draw_hat(canvas: Canvas, identity: Identity, extras: Extras) -> None:
    """Draw a hat over the hair."""
    side, colour = identity.width + 0.12, extras.hat_colour
    dark, light = scaled(colour, 0.7), scaled(colour, 1.18)
    shadow = scaled(identity.skin, 0.6)
    if canvas.far_side and extras.hat is not None:
        back = canvas.back_of_head(0.1) * (1.06, 1)
        canvas.fill(np.minimum(back, (np.inf, -0.52)), scaled(colour, 0.9), 0)
    match extras.hat:
        case "beanie":
            dome = [(0.0, -1.36), (0.62 * side, -1.28), (1.02 * side, -0.95)]
            dome += [(1.06 * side, -0.5), (0.7 * side, -0.56), (0, -0.58)]
            canvas.fill(rounded(mirrored(dome)), colour, 0.3)
            for x in np.linspace(-0.85, 0.85, 9):
                rib = np.array([(0.55 * x * side, -1.26 + 0.1 * x**2), (x * side, -0.78)])
                canvas.stroke(rib, dark, 0.03, relief=0.3)
            band = [(0.0, -0.8), (0.75 * side, -0.77), (1.07 * side, -0.68)]
            band += [(1.08 * side, -0.42), (0.7 * side, -0.5), (0, -0.52)]
            canvas.fill(rounded(mirrored(band)), light, 0.3)
        case "cap":
            dome = [(0.0, -1.3), (0.6 * side, -1.24), (1.0 * side, -0.92)]
            dome += [(1.02 * side, -0.46), (0.7 * side, -0.56), (0, -0.6)]
            canvas.fill(rounded(mirrored(dome)), colour, 0.3)
            for x in (-0.42, 0.0, 0.42):
                seam = np.array([(0.2 * x, -1.27), (0.8 * x * side, -1.0), (x * side, -0.68)])
                canvas.stroke(seam, dark, 0.02, relief=0.4)
            visor = [(0.0, -0.72), (0.6 * side, -0.68), (1.0 * side, -0.5), (0.96 * side, -0.36)]
            visor += [(0.5 * side, -0.42), (0, -0.45)]
            shape = rounded(mirrored(visor))
            canvas.fill(shape + (0, 0.05), shadow, 0.8)
            canvas.fill(shape, scaled(colour, 0.55), 1.3)
            canvas.stroke(shape[: len(shape) // 2], dark, 0.02, relief=1.3)
        case "brimmed":
            brim = disc(0, -0.66, 1.75 * side, 0.2)
            canvas.fill(disc(0, -0.58, 0.9 * side, 0.14), shadow, 0.5)
            canvas.fill(brim, dark, 0.3)
            crown = [(0.0, -1.42), (0.55 * side, -1.46), (0.85 * side, -1.36)]
            crown += [(1.0 * side, -0.72), (0.5 * side, -0.6), (0, -0.58)]
            canvas.fill(rounded(mirrored(crown)), colour, 0.3)
            ribbon = [(0.0, -0.84), (0.93 * side, -0.9), (0.99 * side, -0.72)]
            ribbon += [(0.5 * side, -0.62), (0, -0.6)]
            canvas.fill(rounded(mirrored(ribbon)), scaled(colour, 0.4), 0.3)


def draw_occluder(canvas: Canvas, identity: Identity, extras: Extras) -> None:
    """Draw what hides a part of the face without lying on it."""
    match extras.occluder:
        case "scarf":
            _draw_scarf(canvas, identity, extras.occluder_colour)
        case "hand":
            _draw_hand(canvas, identity, extras.side)
        case "phone":
            _draw_phone(canvas, identity, extras)


def draw_mask(canvas: Canvas, identity: Identity, extras: Extras) -> None:
    """Draw a surgical mask; it lies on the face and takes its shape."""
    if extras.occluder != "mask":
        return
    colour = extras.occluder_colour
    width, chin = identity.width, identity.chin_y
    top = 0.55 * identity.nose_y + 0.45 * identity.eye_y
    right = [(0.0, top), (0.3 * width, top + 0.04), (0.8 * width, 0.3), (0.9 * width, 0.4)]
    right += [(0.94 * identity.jaw * width, 0.74 * chin), (1.1 * identity.chin_width, 1.05 * chin)]
    shape = rounded(mirrored([*right, (0, 1.1 * chin)]))
    for side in (-1.0, 1.0):
        if side != canvas.far_side:
            for near, far in ((0.32, 0.02), (0.6, 0.18)):
                loop = np.array([(side * 0.84 * width, near), (side * 1.02 * width, far)])
                canvas.stroke(loop, scaled(colour, 0.9), 0.025, relief=0.3)
    canvas.fill(shape, colour, _hugging(identity, shape))
    for share in (0.3, 0.5, 0.7):
        x = np.linspace(-0.72, 0.72, 9) * width
        y = top + share * (chin - top) + 0.05 - 0.12 * (x / width) ** 2
        pleat = np.stack([x, y], axis=1)
        canvas.stroke(pleat, scaled(colour, 0.84), 0.022, relief=_hugging(identity, pleat))


def _draw_scarf(canvas: Canvas, identity: Identity, colour: Colour) -> None:
    top, reach = identity.nose_y + 0.1, identity.width + 0.16
    right = [(0.0, top), (0.6 * reach, top), (0.98 * reach, top - 0.14), (1.1 * reach, top + 0.1)]
    right += [(1.16 * reach, 1.2), (0.9 * reach, 1.55), (0, 1.62)]
    shape = rounded(mirrored(right))
    canvas.fill(shape, colour, _hugging(identity, shape))
    x = np.linspace(-1, 1, 11)
    for index, y in enumerate((0.18, 0.38, 0.58, 0.8)):
        fold = np.stack([reach * x, top + y + 0.1 * np.sin(2.2 * x + index) + 0.05 * x**2], axis=1)
        tone = scaled(colour, (0.72, 1.2)[index % 2])
        canvas.stroke(fold, tone, 0.035, relief=_hugging(identity, fold))


def _draw_hand(canvas: Canvas, identity: Identity, side: float) -> None:
    """A hand before the mouth and a cheek, its arm from below."""
    skin = scaled(identity.skin, 0.95)
    palm_x, palm_y = 0.26 * side, identity.mouth_y + 0.3
    canvas.fill(_capsule((palm_x, palm_y), (0.5 * side, 2.3), 0.2, 0.25), skin, 0)
    lean = math.radians(-24 * side)
    for index, reach in enumerate((0.42, 0.52, 0.56, 0.46)[:: int(side)]):
        across = 0.155 * (index - 1.5)
        root = (palm_x + across * math.cos(lean), palm_y - 0.14 + across * math.sin(lean))
        angle = lean + math.radians(5 * (index - 1.5))
        tip = (root[0] + reach * math.sin(angle), root[1] - reach * math.cos(angle))
        _draw_finger(canvas, identity, _capsule(root, tip, 0.082, 0.068))
    canvas.fill(_capsule((palm_x, palm_y - 0.08), (palm_x, palm_y + 0.16), 0.29, 0.22), skin, 0)
    root = (palm_x + 0.12 * side, palm_y + 0.14)
    tip = (palm_x + 0.5 * side, palm_y - 0.26)
    _draw_finger(canvas, identity, _capsule(root, tip, 0.11, 0.075))


def _draw_finger(canvas: Canvas, identity: Identity, finger: FloatArray) -> None:
    """Draw a capsule with an outline that is open at its root."""
    canvas.fill(finger, scaled(identity.skin, 0.95), 0)
    outline = np.concatenate([finger[8:], finger[:1]])
    canvas.stroke(outline, scaled(identity.skin, 0.62), 0.016, relief=0)


def _draw_phone(canvas: Canvas, identity: Identity, extras: Extras) -> None:
    """A phone before one half of the face, held from below."""
    side, colour = extras.side, extras.occluder_colour
    middle = np.array((0.62 * side * identity.width, 0.3))
    angle = 0.2 * side
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    arm = _capsule((0.62 * side, 0.8), (0.8 * side, 2.2), 0.2, 0.24)
    canvas.fill(arm, scaled(identity.skin, 0.95), 0)
    box = np.array([(-0.28, -0.55), (0.28, -0.55), (0.28, 0.55), (-0.28, 0.55)])
    case = _with_round_corners(box) @ turn + middle
    canvas.fill(case, colour, 0)
    canvas.stroke(case, scaled(colour, 0.6), 0.03, relief=0, closed=True)
    for y in (-0.4, -0.24):
        canvas.fill(np.asarray(disc(-0.12, y, 0.065, 0.065) @ turn + middle), (20.0, 18.0, 18.0), 0)
    for index in range(4):
        y = 0.02 + 0.15 * index
        ends = np.array([(0.32 * side, y + 0.03), (-0.02 * side, y)]) @ turn + middle
        _draw_finger(canvas, identity, _capsule(ends[0], ends[1], 0.078, 0.07))


def _hugging(identity: Identity, points: FloatArray) -> FloatArray:
    """Return the relief, (N,), of what lies on the face and ends at its flat outline."""
    outwards = np.maximum(np.abs(points[:, 0]) / identity.width, points[:, 1] / identity.chin_y)
    return np.asarray(np.interp(outwards, (0.55, 1.0), (1.0, 0.12)))


def _holds(polygon: FloatArray, points: FloatArray) -> bool:
    """Say whether all points lie inside a closed polygon (even-odd rule)."""
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    for x, y in points:
        crosses = (y0 > y) != (y1 > y)
        at = x0 + (y - y0) * (x1 - x0) / np.where(y1 == y0, 1, y1 - y0)
        if np.count_nonzero(crosses & (x < at)) % 2 == 0:
            return False
    return True


def _capsule(
    start: tuple[float, float] | FloatArray,
    end: tuple[float, float] | FloatArray,
    start_radius: float,
    end_radius: float,
) -> FloatArray:
    """Return a closed polygon round two discs and what lies between them."""
    first, last = np.asarray(start, np.float64), np.asarray(end, np.float64)
    along = math.atan2(*(last - first)[::-1])
    angles = along + np.linspace(math.pi / 2, 3 * math.pi / 2, 9)
    arc = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.concatenate([first + start_radius * arc, last - end_radius * arc])


def _with_round_corners(box: FloatArray) -> FloatArray:
    """Round the corners of a polygon and keep its sides straight, (N, 2)."""
    before, after = np.roll(box, 1, axis=0), np.roll(box, -1, axis=0)
    corners = [box + share * (other - box) for other, share in ((before, 0.2), (after, 0.2))]
    return np.asarray(
        np.stack([corners[0], 0.86 * box + 0.07 * (before + after), corners[1]], 1)
    ).reshape(-1, 2)
