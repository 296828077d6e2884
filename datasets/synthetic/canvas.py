"""Face coordinates to pixels: wrap shapes onto a turned head, then light and expose it.

A head is an ellipsoid with soft bumps (nose, brow ridge, cheeks, chin) lit by one lamp; flat
shapes are wrapped onto it. Turning the head moves the inner features against the outline, and the
shading carries the gradients that a HOG face detector looks for.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.synthetic.people import Colour, Identity, Shot, as_colour

FloatArray = NDArray[np.floating]
Relief = float | FloatArray
"""How far shapes follow the head's relief, one number or (N,): 0 flat, 1 on its surface."""
ByteImage = NDArray[np.uint8]

_SUPERSAMPLE = 2
_DEPTH = 0.55  # of the face ellipsoid: a true head is deeper, a face is flatter
_PROFILE_YAW = math.radians(18)  # further turned, the far edge of a face is its silhouette
_SHADE_PX = 112  # shading is smooth, so it is computed on a coarse grid and stretched
_SHADE_REACH = 1.7  # the grid covers -1.7..1.7 in x and y
_ANGLES = np.linspace(0, 2 * math.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


class Canvas:
    """A supersampled picture and the mask of what was drawn over its backdrop."""

    def __init__(self, backdrop: ByteImage, shot: Shot, identity: Identity) -> None:
        size = (shot.width_px * _SUPERSAMPLE, shot.height_px * _SUPERSAMPLE)
        self.image = cv2.resize(backdrop, size)
        self.mask = np.zeros(self.image.shape[:2], np.uint8)
        self._half_width = identity.width
        self.far_side = math.copysign(1.0, shot.yaw) if abs(shot.yaw) > _PROFILE_YAW else 0.0
        """-1 or 1: the side that is turned away in a half profile; 0 for a frontal face."""
        self._turn = (math.sin(shot.yaw), math.cos(shot.yaw))
        self._nod = (math.sin(shot.pitch), math.cos(shot.pitch))
        scale = shot.head_px * _SUPERSAMPLE
        cos, sin = math.cos(shot.roll) * scale, math.sin(shot.roll) * scale
        centre_x, centre_y = (value * _SUPERSAMPLE for value in shot.centre)
        self.to_px = np.array([[cos, -sin, centre_x], [sin, cos, centre_y]])
        self._scale = scale

    def turned(self, points: FloatArray, relief: Relief = 1.0) -> FloatArray:
        """Wrap (N, 2) face points onto the head and turn it; `relief` 0 leaves them at z = 0."""
        x, y = points[:, 0], points[:, 1]
        if self.far_side and np.any(relief):
            # What is nearly flat in a frontal view follows the head once that side turns away.
            follow = np.clip(1 + self.far_side * x / self._half_width, 0, 1)
            relief = relief + np.maximum(1 - relief, 0) * follow
        inside = 1 - (x / (1.12 * self._half_width)) ** 2 - (y / 1.15) ** 2
        z = relief * _DEPTH * np.sqrt(np.maximum(inside, 0))
        (sin_yaw, cos_yaw), (sin_nod, cos_nod) = self._turn, self._nod
        turned_x = x * cos_yaw + z * sin_yaw
        if self.far_side and np.any(relief):
            turned_x = self._up_to_silhouette(x, y, turned_x)
        turned_z = z * cos_yaw - x * sin_yaw
        return np.stack([turned_x, y * cos_nod - turned_z * sin_nod], axis=1)

    def _up_to_silhouette(self, x: FloatArray, y: FloatArray, turned_x: FloatArray) -> FloatArray:
        """Keep what lies beyond the ellipsoid's silhouette at the silhouette: it hides the rest."""
        sin, cos = abs(self._turn[0]), self._turn[1]
        shrink = np.sqrt(np.maximum(1 - (y / 1.15) ** 2, 1e-9))
        across, deep = 1.12 * self._half_width * shrink, _DEPTH * shrink
        edge = np.hypot(across * cos, deep * sin)
        is_hidden = self.far_side * x > across**2 * cos / edge
        beyond = np.maximum(edge, self.far_side * turned_x)
        return np.where(is_hidden, self.far_side * beyond, turned_x)

    def back_of_head(self, hair: float) -> FloatArray:
        """Return the skull behind the near ear of a turned head, (24, 2), with `hair` on top."""
        # A skull is deeper than wide.
        sin, cos = self._turn
        reach = math.hypot(self._half_width, 0.9 * sin / cos)
        middle = self.far_side * (0.8 * self._half_width - reach)
        return disc(middle, -0.32, 0.8 * self._half_width, 0.76 + hair)

    def fill(self, points: FloatArray, colour: Colour, relief: Relief = 1.0) -> None:
        """Fill a polygon, (N, 2) in face coordinates."""
        polygon = [self._fixed_point(points, relief)]
        cv2.fillPoly(self.image, polygon, colour, cv2.LINE_AA, 4)
        cv2.fillPoly(self.mask, polygon, (255.0,), cv2.LINE_AA, 4)

    def stroke(
        self,
        points: FloatArray,
        colour: Colour,
        width: float,
        *,
        relief: Relief = 1.0,
        closed: bool = False,
    ) -> None:
        """Draw a line along (N, 2) face points; `width` in half head heights."""
        thickness = max(1, round(width * self._scale))
        line = [self._fixed_point(points, relief)]
        cv2.polylines(self.image, line, closed, colour, thickness, cv2.LINE_AA, 4)

    def lit(self, shading: FloatArray, backdrop: ByteImage) -> FloatArray:
        """Multiply what was drawn by `shading` (see `shade`): (H, W, 3) float32, photo size.

        The backdrop stays as it is. Only drawing needs the supersampled pixels: shading is smooth.
        """
        height, width = backdrop.shape[:2]
        step = 2 * _SHADE_REACH / (_SHADE_PX - 1)
        grid_to_face = np.array([[step, 0, -_SHADE_REACH], [0, step, -_SHADE_REACH], [0, 0, 1]])
        grid_to_px = self.to_px @ grid_to_face / _SUPERSAMPLE
        stretched = cv2.warpAffine(
            shading, grid_to_px, (width, height), borderMode=cv2.BORDER_REPLICATE
        )
        image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(self.mask, (width, height), interpolation=cv2.INTER_AREA)
        drawn = cv2.multiply(image, stretched, dtype=cv2.CV_32F)
        alpha = mask[:, :, None] * np.float32(1 / 255)
        return np.asarray(backdrop + (drawn - backdrop) * alpha)

    def box_round(self, points: FloatArray, margin: float) -> tuple[int, int, int, int]:
        """Return the box round (N, 2) face points: left, top, width, height, photo pixels.

        Args:
            points: drawn as an outline is, nearly flat.
            margin: added on each side, a share of the box's width or height.
        """
        pixels = (self.turned(points, 0.12) @ self.to_px[:, :2].T + self.to_px[:, 2]) / _SUPERSAMPLE
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        more = margin * (high - low)
        height, width = self.mask.shape
        left, top = np.maximum(np.floor(low - more), 0).astype(int).tolist()
        limit = (width // _SUPERSAMPLE, height // _SUPERSAMPLE)
        right, bottom = np.minimum(np.ceil(high + more), limit).astype(int).tolist()
        return left, top, right - left, bottom - top

    def _fixed_point(self, points: FloatArray, relief: Relief) -> NDArray[np.int32]:
        turned = self.turned(points, relief)
        pixels = turned @ self.to_px[:, :2].T + self.to_px[:, 2]
        return np.asarray(np.round(pixels * 16), np.int32)  # 4 fractional bits


def shade(canvas: Canvas, identity: Identity, shot: Shot) -> FloatArray:
    """Return what albedo is multiplied by, (_SHADE_PX, _SHADE_PX, 3) float32.

    The height of the face is an ellipsoid plus Gaussian bumps at turned positions; its normals
    give Lambert's cosine and a soft gloss, a second set of Gaussians dims hollows and tints skin.
    """
    axis = np.linspace(-_SHADE_REACH, _SHADE_REACH, _SHADE_PX, dtype=np.float32)

    def spots(rows: list[tuple[float, float, float, float, float]]) -> FloatArray:
        """Sum amplitude * Gaussian over rows of (x, y, width, height, amplitude)."""
        table = np.array(rows, np.float32)
        centres = canvas.turned(table[:, :2]).astype(np.float32)
        across = np.exp(-(((axis[None] - centres[:, :1]) / table[:, 2:3]) ** 2))
        down = np.exp(-(((axis[None] - centres[:, 1:]) / table[:, 3:4]) ** 2))
        return np.asarray((down * table[:, 4:]).T @ across)

    def both(x: float, y: float, *rest: float) -> list[tuple[float, float, float, float, float]]:
        wide, high, amplitude = rest
        return [(-x, y, wide, high, amplitude), (x, y, wide, high, amplitude)]

    one = identity
    nose_mid = 0.5 * (one.eye_y + one.nose_y)
    bumps = spots(
        [(0, nose_mid, 0.1, 0.3, 0.6 * one.nose_height)]
        + [(0, one.nose_y - 0.08, 0.75 * one.nose_width, 0.11, one.nose_height)]
        + both(0.75 * one.nose_width, one.nose_y - 0.05, 0.06, 0.07, 0.3 * one.nose_height)
        + both(one.eye_x, one.eye_y, 1.2 * one.eye_width, 0.13, -0.1 * one.socket - 0.04)
        + both(one.eye_x, one.eye_y - 0.24, 0.24, 0.09, 0.05)
        + both(0.62 * one.width, 0.3, 0.22, 0.2, 0.09 * one.cheekbone + 0.08 * max(shot.smile, 0))
        + [(0, 0.95 * one.chin_y, 0.8 * one.chin_width, 0.13, 0.12)]
        + [(0, one.mouth_y, one.mouth_width, 0.13, 0.08)]
        + both(one.mouth_width + 0.06, one.mouth_y - 0.14, 0.06, 0.14, -0.05)
        + [(0, one.mouth_y + 0.19, 0.16, 0.05, -0.06)]
    )
    x, y = axis[None, :], axis[:, None]
    inside = 1 - (x / (1.2 * one.width)) ** 2 - (y / 1.3) ** 2
    z = 0.8 * np.sqrt(np.maximum(inside, 0.04)) + bumps
    step = 2 * _SHADE_REACH / (_SHADE_PX - 1)
    slope_y, slope_x = np.gradient(z, step)
    inverse = 1 / np.sqrt(slope_x**2 + slope_y**2 + 1)
    light_x, light_y, light_z = shot.light
    lambert = np.maximum((light_z - slope_x * light_x - slope_y * light_y) * inverse, 0)
    # Blinn's half vector between the lamp and the camera, which looks along z.
    half_length = math.sqrt(2 + 2 * light_z)
    half_cosine = (light_z + 1 - slope_x * light_x - slope_y * light_y) * inverse / half_length
    gloss = np.maximum(half_cosine, 0) ** 24
    hollows = spots(
        both(one.eye_x, one.eye_y - 0.03, 1.3 * one.eye_width, 0.15, 0.2 + 0.22 * one.socket)
        + both(0.3 * one.eye_x, one.eye_y - 0.02, 0.07, 0.12, 0.12)
        + [(0, one.nose_y + 0.05, one.nose_width, 0.06, 0.3)]
        + [(0, one.mouth_y + one.lower_lip + 0.08, 0.6 * one.mouth_width, 0.05, 0.25)]
        + both(one.mouth_width + 0.02, one.mouth_y, 0.05, 0.05, 0.2)
        + both(0.95 * one.width, 0.62, 0.2, 0.3, 0.22)
    )
    occlusion = np.clip(1 - hollows, 0.3, 1)
    base = (1.15 * (1 - shot.ambient)) * lambert + shot.ambient * occlusion
    base = base * (0.5 + 0.5 * occlusion) + 0.22 * (1 - shot.ambient) * gloss
    blush = spots(
        both(0.55 * one.width, 0.3, 0.2, 0.16, 0.1) + [(0, one.nose_y - 0.08, 0.1, 0.1, 0.1)]
    )
    beard = one.beard * spots(
        [(0, 0.98 * one.chin_y, 0.36, 0.24, 0.75)]
        + both(0.72 * one.width, 0.62, 0.16, 0.3, 0.65)
        + [(0, one.mouth_y + 0.26, 0.14, 0.1, 0.3)]
    )
    stubble = 1 - np.clip(beard, 0, 0.78)
    tint = np.stack([stubble - blush, stubble - blush, stubble], axis=2)
    return np.asarray(base[:, :, None] * tint, np.float32)


def shade_smooth(shot: Shot) -> FloatArray:
    """Return `shade` for what has no relief of its own, a hat or a hand: one wide bulge."""
    axis = np.linspace(-_SHADE_REACH, _SHADE_REACH, _SHADE_PX, dtype=np.float32)
    x, y = axis[None, :] / 2.2, axis[:, None] / 2.6
    z = np.sqrt(np.maximum(1 - x**2 - y**2, 0.04))
    light_x, light_y, light_z = shot.light
    lambert = np.maximum(light_x * x + light_y * y + light_z * z, 0)
    base = (1.1 * (1 - shot.ambient)) * lambert + shot.ambient
    return np.asarray(np.repeat(base[:, :, None], 3, axis=2), np.float32)


def draw_backdrop(shot: Shot, rng: np.random.Generator) -> ByteImage:
    """Paint a gradient with soft blobs and, when busy, a few panels: (H, W, 3) uint8."""
    height, width = shot.height_px, shot.width_px
    first, last = (np.array(colour, np.float32) for colour in shot.backdrop)
    ramp = np.linspace(0, 1, 9, dtype=np.float32)[:, None, None]
    coarse = first + (last - first) * ramp + rng.normal(0, 30 * shot.clutter, (9, 9, 1))
    soft = cv2.resize(np.asarray(np.clip(coarse, 0, 255), np.uint8), (width, height))
    for _ in range(int(6 * shot.clutter)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        box = ((x, y), tuple(rng.uniform(0.1, 0.6, 2) * width), rng.uniform(-20, 20))
        corners = np.round(cv2.boxPoints(box) * 16).astype(np.int32)
        tone = as_colour(np.clip(first * rng.uniform(0.5, 1.4) + rng.normal(0, 18, 3), 0, 255))
        cv2.fillPoly(soft, [corners], tone, cv2.LINE_AA, 4)
    return np.asarray(cv2.blur(soft, (5, 5)), np.uint8)


def expose(lit: FloatArray, shot: Shot, rng: np.random.Generator) -> ByteImage:
    """Apply the colour of the light, the optics and the sensor: (H, W, 3) uint8."""
    photo = lit * np.array(shot.gain, np.float32)
    if shot.blur_px > 0.2:
        photo = np.asarray(cv2.GaussianBlur(photo, (0, 0), shot.blur_px), np.float32)
    if any(shot.extras.motion_px):
        photo = _shaken(photo, shot.extras.motion_px)
    photo = photo + shot.noise * rng.standard_normal(photo.shape, np.float32)
    # A shoulder instead of clipping: bright skin keeps its shading under a strong light.
    bright = np.maximum(photo - 190, 0)
    photo = np.minimum(photo, 190) + 65 * bright / (bright + 65)
    return np.asarray(np.clip(photo, 0, 255), np.uint8)


def _shaken(photo: FloatArray, motion_px: tuple[float, float]) -> FloatArray:
    """Smear a photo along a straight way of the camera, px."""
    reach = math.ceil(max(abs(way) for way in motion_px) / 2)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    half_x, half_y = (16 * way / 2 for way in motion_px)
    start = (round(16 * reach - half_x), round(16 * reach - half_y))
    end = (round(16 * reach + half_x), round(16 * reach + half_y))
    cv2.line(kernel, start, end, (1.0,), 1, cv2.LINE_8, 4)
    return np.asarray(cv2.filter2D(photo, -1, kernel / kernel.sum()), np.float32)


def mirrored(right: list[tuple[float, float]]) -> FloatArray:
    """Close a right half, listed from top to bottom, with its mirror image."""
    half = np.array(right, np.float64)
    return np.concatenate([half, half[::-1] * (-1, 1)])


def rounded(polygon: FloatArray) -> FloatArray:
    """Cut the corners of a closed polygon three times (Chaikin): (N, 2) to (8 N, 2)."""
    for _ in range(3):
        following = np.roll(polygon, -1, axis=0)
        cut = np.stack([0.75 * polygon + 0.25 * following, 0.25 * polygon + 0.75 * following], 1)
        polygon = cut.reshape(-1, 2)
    return polygon


def along(line: FloatArray, share: FloatArray) -> FloatArray:
    """Return points at shares, 0..1, of the length of a line through (N, 2) points."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = share * length[-1]
    return np.stack([np.interp(at, length, line[:, axis]) for axis in (0, 1)], axis=1)


def disc(x: float, y: float, radius_x: float, radius_y: float) -> FloatArray:
    """Return an ellipse as a closed polygon, (24, 2)."""
    return np.asarray(_CIRCLE * (radius_x, radius_y) + (x, y))


def scaled(bgr: Colour, factor: float) -> Colour:
    """Return a colour made lighter or darker, at most 255."""
    return as_colour([min(255.0, value * factor) for value in bgr])
