"""Seeded galleries for the mining benchmarks: what networks in four states give.

Each function returns (N, D) float32 unit rows and (N,) int64 identities, sorted by identity; the
same arguments give the same bytes. Rows are drawn in chunks, so that a gallery takes little more
memory than its rows. Random sums of normal components stand in for faces: what they must have in
common with real ones is how many negatives fall into the bands and where these lie, for that is
what the miner's time and an index's recall depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

DIMENSION = 128
FACES_PER_IDENTITY = 20

Gallery = tuple[NDArray[np.float32], NDArray[np.int64]]
Float32Array = NDArray[np.float32]

_CHUNK = 1 << 16

# Of the confusable gallery. Identities: how many look alike, in how many of D dimensions they
# differ, and how far members of one group are from its centre. Faces: how far they are from their
# identity, from identity to identity and from face to face (both log-normal).
_GROUP_SIZE = 12
_INTRINSIC = 24
_GROUP_RADIUS = 0.75
_FACE_NOISE = 0.42
_IDENTITY_SPREAD = 0.2
_FACE_SPREAD = 0.3


class MakeGallery(Protocol):
    """Draws a gallery."""

    def __call__(
        self,
        num_faces: int,
        *,
        dimension: int = DIMENSION,
        faces_per_identity: int = FACES_PER_IDENTITY,
        seed: int = 0,
    ) -> Gallery:
        """Return rows and identities; the last identity has fewer faces where N does not divide."""
        ...


def separated(
    num_faces: int,
    *,
    dimension: int = DIMENSION,
    faces_per_identity: int = FACES_PER_IDENTITY,
    seed: int = 0,
) -> Gallery:
    """A small clean data set after training: identities are far apart, nearly all bands empty.

    Two faces of a person are d2 = 0.4 apart, two of different persons 2.0 with a spread of 0.18.
    """
    random = np.random.default_rng(seed)
    identities = _identities(num_faces, faces_per_identity)
    centres = _normal(random, (_count(identities), dimension))
    return _rows(identities, centres, lambda who: 0.5 * _normal(random, (who.size, dimension)))


def untrained(
    num_faces: int,
    *,
    dimension: int = DIMENSION,
    faces_per_identity: int = FACES_PER_IDENTITY,
    seed: int = 0,
) -> Gallery:
    """A network with random weights: identity hardly shows, all distances are near 2.0.

    A sixth or more of all faces falls into each band.
    """
    random = np.random.default_rng(seed)
    identities = _identities(num_faces, faces_per_identity)
    centres = _normal(random, (_count(identities), dimension))
    return _rows(identities, centres, lambda who: 10 * _normal(random, (who.size, dimension)))


def collapsed(
    num_faces: int,
    *,
    dimension: int = DIMENSION,
    faces_per_identity: int = FACES_PER_IDENTITY,
    seed: int = 0,
) -> Gallery:
    """A network that has nearly collapsed: all faces within d2 = 0.01 or so of each other.

    Every face that is no hard negative falls into the band: about half of them. Distances differ
    by less than a product in reduced precision can tell.
    """
    random = np.random.default_rng(seed)
    identities = _identities(num_faces, faces_per_identity)
    spread = np.float32(0.05 / np.sqrt(dimension))
    centres = _normal(random, (_count(identities), dimension)) * (spread / 2)
    centres += np.float32(1 / np.sqrt(dimension))
    return _rows(identities, centres, lambda who: spread * _normal(random, (who.size, dimension)))


def confusable(
    num_faces: int,
    *,
    dimension: int = DIMENSION,
    faces_per_identity: int = FACES_PER_IDENTITY,
    seed: int = 0,
) -> Gallery:
    """A large data set after training: each person has some look-alikes, and they fill the bands.

    Identities lie in groups of about a dozen, in 24 of the dimensions; persons differ in
    how well the network holds their faces together, and faces in how clear they are. A third or
    so of all pairs has semi-hard negatives, most of these in few identities; those of blurred
    faces, whose bands lie far out, are spread over many. Identities are numbered at random, so
    that look-alikes are not neighbours in the gallery.
    """
    random = np.random.default_rng(seed)
    identities = _identities(num_faces, faces_per_identity)
    people = _count(identities)
    intrinsic = min(_INTRINSIC, dimension)
    axes = np.linalg.qr(random.normal(size=(dimension, intrinsic)))[0].T.astype(np.float32)
    groups = _unit(_normal(random, (max(1, people // _GROUP_SIZE), intrinsic)))
    centres = groups[random.integers(len(groups), size=people)]
    centres += _normal(random, centres.shape) * np.float32(_GROUP_RADIUS / np.sqrt(intrinsic))
    noise = np.exp(_normal(random, (people,)) * np.float32(_IDENTITY_SPREAD))
    noise *= np.float32(_FACE_NOISE / np.sqrt(dimension))

    def blur(who: NDArray[np.int64]) -> Float32Array:
        x = _normal(random, (who.size, dimension))
        x *= np.exp(_normal(random, (who.size, 1)) * np.float32(_FACE_SPREAD))
        x *= noise[who, None]
        return x

    return _rows(identities, _unit(centres) @ axes, blur)


GALLERIES: Mapping[str, MakeGallery] = {
    "separated": separated,
    "untrained": untrained,
    "collapsed": collapsed,
    "confusable": confusable,
}


def _identities(num_faces: int, faces_per_identity: int) -> NDArray[np.int64]:
    return np.arange(num_faces, dtype=np.int64) // faces_per_identity


def _count(identities: NDArray[np.int64]) -> int:
    return int(identities[-1]) + 1


def _normal(random: np.random.Generator, shape: tuple[int, ...]) -> Float32Array:
    return random.standard_normal(shape, np.float32)


def _unit(x: Float32Array) -> Float32Array:
    np.divide(x, np.linalg.norm(x, axis=1, keepdims=True), out=x)
    return x


def _rows(
    identities: NDArray[np.int64],
    centres: Float32Array,
    noise: Callable[[NDArray[np.int64]], Float32Array],
) -> Gallery:
    """Return `centres[identities] + noise(identities)` at unit length, drawn chunk by chunk."""
    x = np.empty((identities.size, centres.shape[1]), np.float32)
    for start in range(0, identities.size, _CHUNK):
        who = identities[start : start + _CHUNK]
        x[start : start + _CHUNK] = _unit(centres[who] + noise(who))
    return x, identities
