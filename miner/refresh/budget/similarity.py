"""Which identities look alike, so that one refresh embeds those that are negatives of each other.

It is asked of the weights that are about to be mined: a few faces of each identity are embedded
beforehand (`probe`), never compared with what other weights gave. `order_by_similarity` puts
identities into an order any stretch of which looks alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST_PROBED = 4
"""Faces of an identity that are embedded to see whom it looks like."""

PROBE_SHARE = 0.1
"""Share of what a refresh may embed that goes to more than one face an identity."""

ONE_FACE_SHARE = 0.5
"""The share up to which one face an identity is worth it; above, identities come in any order."""

_ROUNDS = 8
_SMALLEST = 16  # identities that are not split further: no part is cut there

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def faces_to_probe(num_identities: int, most_faces: int) -> int:
    """Return how many faces of each identity to embed beforehand, 0 to MOST_PROBED.

    Args:
        num_identities: to put in order.
        most_faces: that a refresh may embed.
    """
    at_once = int(PROBE_SHARE * most_faces / num_identities)
    if at_once:
        return min(at_once, MOST_PROBED)
    return int(num_identities <= ONE_FACE_SHARE * most_faces)


def probe_faces(face_indices: Ints, identities: Ints, count: int) -> Ints:
    """Return the first `count` faces of each identity, ascending.

    Args:
        face_indices: (N,) ascending.
        identities: (N,) of each face.
        count: 0 or more.
    """
    order = np.argsort(identities, kind="stable")
    by_identity = identities[order]
    rank = np.arange(order.size) - np.searchsorted(by_identity, by_identity)
    return np.sort(face_indices[order[rank < count]])


def centres(embeddings: Floats, identities: Ints, of: Ints) -> Floats:
    """Return (P, D) the mean embedding of each identity in `of`, which is ascending."""
    place = np.searchsorted(of, identities)
    sums = np.zeros((of.size, embeddings.shape[1]), np.float32)
    np.add.at(sums, place, embeddings)
    sums /= np.bincount(place, minlength=of.size)[:, None]
    return sums


def order_by_similarity(points: Floats, weights: Ints, parts: int) -> Ints:
    """Return an order of the points in which neighbours look alike.

    The points are split in two as balanced 2-means does, each side again, and so on. The first
    splits are where `parts` parts of equal weight will be cut.

    Args:
        points: (P, D) the identities' centres.
        weights: (P,) their faces.
        parts: into how many parts the order is cut.

    Returns:
        (P,) positions, each once.
    """
    done: list[Ints] = []
    # Depth first, left to right, without recursion: a million points are twenty splits deep.
    waiting = [(np.arange(len(points)), parts)]
    while waiting:
        rows, cuts = waiting.pop()
        if rows.size <= 2 or (cuts <= 1 and rows.size <= _SMALLEST):
            done.append(rows)
            continue
        first = max(cuts, 2) // 2
        rows, size = _split(points[rows], weights[rows], rows, first / max(cuts, 2))
        waiting += [(rows[size:], max(cuts, 2) - first), (rows[:size], first)]
    return np.concatenate(done)


def _split(points: Floats, weights: Ints, rows: Ints, share: float) -> tuple[Ints, int]:
    """Return the rows, those of the first side ahead, and how many these are."""
    centred = points - points.mean(axis=0)
    direction = centred[np.argmax((centred**2).sum(axis=1))]
    for _ in range(_ROUNDS):  # towards the direction in which they spread most
        direction = (centred @ direction) @ centred
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
    order, size = np.arange(rows.size), 0
    for _ in range(_ROUNDS):
        before = order[:size]
        order = np.argsort(points @ direction, kind="stable")[::-1]
        upto = np.cumsum(weights[order])
        size = int(np.clip(np.searchsorted(upto, share * upto[-1]) + 1, 1, rows.size - 1))
        if np.array_equal(np.sort(before), np.sort(order[:size])):
            break
        direction = points[order[:size]].mean(axis=0) - points[order[size:]].mean(axis=0)
    return rows[order], size
