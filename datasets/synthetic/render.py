"""Draw people, each an `Identity` and a `Shot`, to pixels: flat shapes from back to front."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from facequarry.datasets.synthetic.accessories import (
    draw_beard,
    draw_glasses,
    draw_hat,
    draw_mask,
    draw_occluder,
    under_hat,
)
from facequarry.datasets.synthetic.canvas import (
    ByteImage,
    Canvas,
    FloatArray,
    along,
    disc,
    draw_backdrop,
    expose,
    mirrored,
    rounded,
    scaled,
    shade,
    shade_smooth,
)
from facequarry.datasets.synthetic.people import Identity, Shot, as_colour

_DARK = (38.0, 30.0, 34.0)
_BOX_MARGIN = 0.12  # of a head's width and height, on each side: VGGFace2's boxes are loose


def render(identity: Identity, shot: Shot) -> ByteImage:
    """Draw one photo; the same arguments give the same pixels.

    Returns:
        (shot.height_px, shot.width_px, 3) uint8, channels in OpenCV's order: blue, green, red.
    """
    return render_group([(identity, shot)], shot)


def render_group(people: Sequence[tuple[Identity, Shot]], camera: Shot) -> ByteImage:
    """Draw several people before one backdrop, the first one at the back.

    Args:
        people: at least one; all shots name the same size of photo.
        camera: how the photo itself was taken: backdrop, colour of the light, blur, noise.

    Returns:
        (height_px, width_px, 3) uint8, channels in OpenCV's order: blue, green, red.
    """
    rng = np.random.default_rng(camera.seed)
    picture = draw_backdrop(camera, rng)
    for identity, shot in people[:-1]:
        picture = np.asarray(np.clip(_add_person(picture, identity, shot), 0, 255), np.uint8)
    return expose(_add_person(picture, *people[-1]), camera, rng)


def head_box(identity: Identity, shot: Shot) -> tuple[int, int, int, int]:
    """Return the loose box round a head, hair line to chin: left, top, width, height, px.

    It ends at the photo's border.
    """
    canvas = Canvas(np.zeros((shot.height_px, shot.width_px, 3), np.uint8), shot, identity)
    return canvas.box_round(_outline(identity), _BOX_MARGIN)


def _add_person(backdrop: ByteImage, identity: Identity, shot: Shot) -> FloatArray:
    """Draw and light one person before a backdrop: (H, W, 3) float32."""
    extras = shot.extras
    if extras.hat is not None:
        identity = under_hat(identity)
    canvas = Canvas(backdrop, shot, identity)
    _draw_body(canvas, identity, shot)
    _draw_head(canvas, identity)
    for side in (-1.0, 1.0):
        _draw_eye(canvas, identity, shot, side)
        _draw_brow(canvas, identity, shot, side)
    draw_beard(canvas, identity, extras)
    _draw_nose(canvas, identity)
    _draw_mouth(canvas, identity, shot)
    _draw_front_hair(canvas, identity)
    if extras.glasses is not None:
        draw_glasses(canvas, identity, extras.glasses)
    elif shot.glasses:
        _draw_thin_glasses(canvas, identity)
    draw_mask(canvas, identity, extras)
    lit = canvas.lit(shade(canvas, identity, shot), backdrop)
    if extras.hat is None and extras.occluder in (None, "mask"):
        return lit
    # What does not lie on the face must not show the face's relief.
    behind = np.asarray(np.clip(lit, 0, 255), np.uint8)
    front = Canvas(behind, shot, identity)
    draw_hat(front, identity, extras)
    draw_occluder(front, identity, extras)
    return front.lit(shade_smooth(shot), behind)


def _draw_body(canvas: Canvas, identity: Identity, shot: Shot) -> None:
    """Hair behind the head, neck, shoulders, ears."""
    width, volume = identity.width, identity.hair_volume
    if canvas.far_side:
        canvas.fill(canvas.back_of_head(0.5 * volume), scaled(identity.hair, 0.72), 0)
    if identity.hair_style in ("long", "bob"):
        end = identity.hair_length if identity.hair_style == "long" else 0.62
        reach = width + 0.8 * volume
        behind = mirrored(
            [(0, -1 - volume), (0.7 * reach, -0.98 - 0.5 * volume), (1.06 * reach, -0.4)]
            + [(1.12 * reach, 0.3), (1.15 * reach, end), (0.5 * reach, end + 0.06)]
        )
        canvas.fill(rounded(behind), scaled(identity.hair, 0.72), 0)
        for x in (0.8, 0.92, 1.04):
            for side in (-x, x):
                lock = np.array([(0.9 * side * reach, -0.5), (side * reach, 0.1)])
                lock = np.concatenate([lock, [(1.03 * side * reach, end - 0.06)]])
                canvas.stroke(lock, scaled(identity.hair, 0.55), 0.025, relief=0)
    if identity.hair_style == "curly":
        for index, angle in enumerate(np.linspace(0.8 * math.pi, 2.2 * math.pi, 17)):
            x, y = (width + 0.6 * volume) * math.cos(angle), -0.12 + 0.92 * math.sin(angle)
            tone = scaled(identity.hair, (0.78, 0.64, 0.7)[index % 3])
            canvas.fill(disc(x, y, 0.2 + volume, 0.2 + volume), tone, 0)
    neck = 0.62 * width * (0.55 + 0.5 * identity.jaw)
    throat = mirrored([(0, 0.6), (neck, 0.62), (neck, 1.25), (1.1 * neck, 1.9), (0, 1.9)])
    canvas.fill(throat, scaled(identity.skin, 0.62), 0)
    shoulders = [(0, 1.5), (0.9 * neck, 1.3), (1.25 * neck, 1.27), (1.25, 1.52), (1.5, 1.9)]
    canvas.fill(mirrored([*shoulders, (1.5, 3), (0, 3)]), shot.clothes, 0)
    for side in (-1.0, 1.0):
        ear = disc(side * 1.03 * width, 0.1, 0.5 * identity.ear_size, identity.ear_size)
        canvas.fill(ear, scaled(identity.skin, 0.86), 0)
        inner = disc(side * 1.06 * width, 0.1, 0.22 * identity.ear_size, 0.6 * identity.ear_size)
        canvas.fill(inner, scaled(identity.skin, 0.66), 0)


def _draw_head(canvas: Canvas, identity: Identity) -> None:
    canvas.fill(_outline(identity), identity.skin, 0.12)
    for x, y in identity.freckles:
        canvas.fill(disc(x, y, 0.014, 0.014), scaled(identity.skin, 0.72))
    if identity.mole is not None:
        canvas.fill(disc(*identity.mole, 0.028, 0.028), scaled(identity.skin, 0.38))


def _draw_eye(canvas: Canvas, identity: Identity, shot: Shot, side: float) -> None:
    half = identity.eye_width
    opening = half * identity.eye_height * shot.eye_open
    # Local frame: x runs outwards from -half to half before the tilt.
    x = np.linspace(-1, 1, 17)
    upper = -opening * 1.1 * (1 - np.abs(x) ** 2.4) ** 0.8
    lower = opening * 0.75 * (1 - x**2)

    def placed(local_x: FloatArray, local_y: FloatArray) -> FloatArray:
        cos, sin = math.cos(identity.eye_tilt), math.sin(identity.eye_tilt)
        out = local_x * cos + local_y * sin
        down = local_y * cos - local_x * sin
        return np.stack([side * (identity.eye_x + out), identity.eye_y + down], axis=1)

    lid = placed(half * x, upper)
    white = np.concatenate([lid, placed(half * x, lower)[::-1]])
    canvas.fill(white, (222, 226, 230))
    iris_x = side * shot.gaze[0] * 0.3 * half
    iris_y = (0.25 * shot.gaze[1] - 0.1) * opening
    iris_radius = identity.iris_size * half
    for share, colour in (
        (1.0, scaled(identity.iris, 0.55)),
        (0.82, identity.iris),
        (0.42, (18.0, 16.0, 16.0)),
    ):
        ring = disc(iris_x, iris_y, share * iris_radius, share * iris_radius)
        # The lids hide what lies beyond them.
        inside_y = np.clip(
            ring[:, 1],
            np.interp(ring[:, 0] / half, x, upper),
            np.interp(ring[:, 0] / half, x, lower),
        )
        canvas.fill(placed(ring[:, 0], inside_y), colour)
    if opening > 0.3 * iris_radius:
        spark = disc(-0.12 * half, -0.3 * opening, 0.09 * half, 0.09 * half)
        canvas.fill(placed(spark[:, 0], spark[:, 1]), (250, 250, 250))
    canvas.stroke(lid, _DARK, 0.034)
    crease = placed(1.05 * half * x, upper - 0.3 * half - 0.02 * x)
    canvas.stroke(crease[2:-1], scaled(identity.skin, 0.62), 0.018)
    canvas.stroke(placed(half * x, lower)[2:-2], scaled(identity.skin, 0.6), 0.014)


def _draw_brow(canvas: Canvas, identity: Identity, shot: Shot, side: float) -> None:
    t = np.linspace(0, 1, 12)
    x = identity.eye_x + identity.eye_width * (-1.1 + 2.45 * t)
    y = identity.eye_y - identity.brow_gap - 0.05 * shot.brow_raise
    middle = y - identity.brow_arch * np.sin(math.pi * t**1.3) - identity.brow_tilt * (t - 0.4)
    half = 0.5 * identity.brow_thickness * (0.75 + 0.5 * t - 1.05 * t**3)
    upper = np.stack([side * x, middle - half], axis=1)
    lower = np.stack([side * x, middle + half], axis=1)[::-1]
    mixed = as_colour(0.55 * np.array(identity.hair) + 0.12 * np.array(identity.skin))
    canvas.fill(np.concatenate([upper, lower]), mixed)


def _draw_nose(canvas: Canvas, identity: Identity) -> None:
    width, base = identity.nose_width, identity.nose_y
    shade = scaled(identity.skin, 0.56)
    if canvas.far_side:
        # The ridge stands out over the far cheek.
        out = canvas.far_side * (0.5 * identity.nose_height + 0.06)
        near = -0.5 * canvas.far_side * width
        ridge = np.array([(0.02 * canvas.far_side, identity.eye_y), (0.55 * out, 0.6 * base)])
        ridge = np.concatenate([ridge, [(out, base - 0.1), (0.8 * out, base - 0.02)]])
        canvas.fill(np.concatenate([ridge, [(near, base), (near, base - 0.12)]]), identity.skin)
        canvas.stroke(ridge, shade, 0.022)
    for side in (-1.0, 1.0):
        canvas.fill(disc(side * 0.5 * width, base, 0.3 * width, 0.024), (34, 26, 44))
        wing = disc(side * 0.72 * width, base - 0.055, 0.3 * width, 0.075)
        outer = wing[wing[:, 0] * side >= 0.72 * width]
        canvas.stroke(outer[np.argsort(outer[:, 1])], shade, 0.02)
    t = np.linspace(-0.25, 0.25, 7)
    canvas.stroke(np.stack([width * t, base + 0.022 - 0.1 * t**2], axis=1), shade, 0.02)


def _draw_mouth(canvas: Canvas, identity: Identity, shot: Shot) -> None:
    half = identity.mouth_width * (1 + 0.16 * shot.smile - 0.06 * shot.mouth_open)
    t = np.linspace(-1, 1, 21)
    hill = 1 - t**2
    seam = identity.mouth_y + shot.smile * (0.05 - 0.1 * np.abs(t) ** 1.7) + 0.01 * np.cos(6 * t)
    gap = 0.15 * shot.mouth_open * hill**0.7
    bow = 1 - 0.28 * np.exp(-((t / 0.12) ** 2))
    thin = 1 - 0.25 * max(shot.smile, 0)
    top = seam - identity.upper_lip * thin * hill**0.6 * bow - 0.25 * gap
    bottom = seam + gap + identity.lower_lip * thin * hill**0.75
    inner_top, inner_bottom = seam - 0.25 * gap, seam + gap

    def band(upper: FloatArray, lower: FloatArray) -> FloatArray:
        x = half * t
        return np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])

    blue, green, red = identity.skin
    fade = 1 - 0.42 * identity.lip_redness
    lip = (blue * fade * 0.86, green * fade * 0.8, red * 0.88)
    if identity.moustache > 0:
        thickness = (0.04 + 0.07 * identity.moustache) * (1 - 0.75 * np.abs(t) ** 3)
        above = top - 0.015
        canvas.fill(band(above - thickness * 1.2, above + 0.02), scaled(identity.hair, 0.8))
    canvas.fill(band(top, bottom), lip)
    canvas.fill(band(top, inner_top), scaled(lip, 0.82))
    canvas.fill(band(inner_top, inner_bottom), (30, 18, 52))
    teeth = np.minimum(inner_bottom, inner_top + 0.07 * hill)
    canvas.fill(band(inner_top, teeth)[3:-3], (214, 224, 228))
    canvas.stroke(np.stack([half * t, inner_top], 1), (30, 22, 48), 0.02)


def _draw_front_hair(canvas: Canvas, identity: Identity) -> None:
    """Hair over the forehead: a cap between the skull and a hair line that depends on the style."""
    width, volume, line = identity.width, identity.hair_volume, identity.hair_line
    part = identity.parting * width
    side = width + 0.35 * volume
    crown = [(0.86 * side, -0.78 - 0.5 * volume), (0.45 * side, -1.06 - volume)]
    edge: list[tuple[float, float]]  # the right half, from the temple inwards
    match identity.hair_style:
        case "cropped":
            edge = [(0.9 * width, -0.3), (0.72 * width, line), (0.3 * width, line - 0.1)]
            crown = [(0.84 * side, -0.8), (0.45 * side, -1.04 - 0.3 * volume)]
        case "quiff":
            edge = [(0.92 * width, -0.32), (0.74 * width, line), (0.3 * width, line - 0.14)]
            crown = [(0.84 * side, -0.95 - volume), (0.6 * side, -1.18 - 1.5 * volume)]
        case "parted" | "long":
            edge = [(0.96 * width, -0.1), (0.84 * width, line + 0.22), (0.45 * width, line)]
        case "fringe" | "bob":
            edge = [(0.96 * width, -0.05), (0.86 * width, line + 0.15), (0.3 * width, line + 0.22)]
        case "curly":
            edge = [(0.92 * width, -0.2), (0.6 * width, line), (0.1 * width, line - 0.04)]
        case "receding":
            edge = [(0.97 * width, -0.1), (0.92 * width, -0.5), (0.6 * width, -0.86)]
            edge += [(0.2 * width, line - 0.22)]
    skull = np.array([(side, -0.12), (1.06 * side, -0.5), *crown])
    skull = np.concatenate([skull * (-1, 1), skull[::-1]])
    front = np.concatenate([np.array(edge), np.array(edge[::-1]) * (-1, 1)])
    if identity.hair_style in ("parted", "long", "quiff"):
        front = np.insert(front, 3, (part, line - 0.24), axis=0)
    shape = rounded(np.concatenate([skull, front]))
    canvas.fill(shape + (0, 0.035), scaled(identity.skin, 0.72), 0.25)  # its shadow
    canvas.fill(shape, identity.hair, 0.25)
    if identity.hair_style == "curly":
        for row, reach in ((3, 0.62), (2, 0.85), (1, 1.0), (0, 1.0)):
            y = line - 0.03 - row * (0.15 + 0.2 * volume)
            for index, x in enumerate(np.linspace(-0.9, 0.9, 8 - row % 2) * width * reach):
                tone = (0.95, 0.8, 1.08, 0.88)[(3 * index + row) % 4]
                canvas.fill(disc(x, y, 0.13, 0.12), scaled(identity.hair, tone), 0.25)
        return
    # Strands lead from the skull to the hair line; their tones repeat too rarely to look combed.
    share = np.linspace(0.05, 0.95, 26)
    roots, tips = along(skull, share), along(front[::-1], share)
    for index, (root, tip) in enumerate(zip(roots, tips, strict=True)):
        t = np.array((0.08, 0.35, 0.65, 0.9))[:, None]
        strand = root + (tip - root) * t + (0.7 * part, -0.12) * t * (1 - t)
        tone = (0.84, 1.1, 0.92, 1.2, 0.88)[index * 7 % 5]
        canvas.stroke(strand, scaled(identity.hair, tone), 0.024, relief=0.25)


def _draw_thin_glasses(canvas: Canvas, identity: Identity) -> None:
    radius = 1.25 * identity.eye_width
    for side in (-1.0, 1.0):
        lens = disc(side * identity.eye_x, identity.eye_y + 0.02, radius, 0.85 * radius)
        canvas.stroke(lens, _DARK, 0.028, closed=True)
        hinge = side * (identity.eye_x + radius)
        temple = np.array([(hinge, identity.eye_y), (side * identity.width, identity.eye_y + 0.02)])
        canvas.stroke(temple, _DARK, 0.028)
    gap = identity.eye_x - radius
    canvas.stroke(np.array([(-gap, identity.eye_y), (gap, identity.eye_y)]), _DARK, 0.028)


def _outline(identity: Identity) -> FloatArray:
    """The edge of the face, (N, 2)."""
    width, chin = identity.width, identity.chin_y
    return rounded(
        mirrored(
            [(0, -1), (0.66 * width, -0.93), (1.02 * width, -0.5), (1.02 * width, 0)]
            + [(identity.cheek * width, 0.34), (identity.jaw * width, 0.72 * chin)]
            + [(identity.chin_width, 1.01 * chin), (0, 1.03 * chin)]
        )
    )
