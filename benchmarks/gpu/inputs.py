"""Faces and searches for the GPU engine's benchmark, made with torch and NumPy alone."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from facequarry.miner.core.distance import band
from facequarry.miner.kernels.layout import FARTHEST, HASH, Int64Array, Query, Rows, make_query

Kind = Literal["separated", "untrained", "collapsed"]

FACES = 364
"""Faces of an identity: VGGFace2's training set has 3.14 million of 8,631."""

_NOISE = {"separated": 0.95, "untrained": 30.0, "collapsed": 30.0}
_CHUNK = 1 << 18


def faces(num_rows: int, dimension: int, kind: Kind, device: str, each: int = FACES) -> Rows:
    """Return random unit rows around one direction per identity, sorted by identity.

    Args:
        num_rows: N.
        dimension: D.
        kind: separated as a trained network's, as good as random, or within 0.02 of each other.
        device: where to draw them.
        each: faces of an identity.
    """
    random = torch.Generator(device).manual_seed(num_rows)
    identity = torch.arange(num_rows, device=device) // each
    shape = (int(identity[-1]) + 1, dimension)
    centres = torch.nn.functional.normalize(torch.randn(shape, generator=random, device=device))
    x = np.empty((num_rows, dimension), np.float32)
    norms2 = np.empty(num_rows)
    for begin in range(0, num_rows, _CHUNK):
        part = centres[identity[begin : begin + _CHUNK]]
        noise = torch.randn(part.shape, generator=random, device=device)
        part = part + _NOISE[kind] * torch.nn.functional.normalize(noise)
        if kind == "collapsed":
            part = torch.nn.functional.normalize(part) + 20 * centres[0]
        part = torch.nn.functional.normalize(part)
        x[begin : begin + _CHUNK] = part.cpu().numpy()
        norms2[begin : begin + _CHUNK] = part.double().square().sum(1).cpu().numpy()
    first = np.arange(num_rows) // each * each
    return Rows(
        x=x,
        ids=np.arange(num_rows),
        first=first,
        last=np.minimum(first + each, num_rows),
        norms2=norms2,
    )


def defined_d2(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the defined d2 of rows (..., D), which broadcast: summed in index order in float64."""
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for k in range(a.shape[-1]):
        difference = a[..., k].double() - b[..., k].double()
        total = total + difference * difference
    return total.to(torch.float32)


def usual_queries(rows: Rows, device: str, margin: float = 0.2) -> tuple[Int64Array, list[Query]]:
    """Return all anchors and what mining asks with one positive each: its band, and the nearest."""
    anchors = np.arange(rows.ids.size)
    positive = np.where(anchors + 1 < rows.last, anchors + 1, rows.first)
    d2_ap = np.empty(anchors.size, np.float32)
    for begin in range(0, anchors.size, _CHUNK):
        part = slice(begin, begin + _CHUNK)
        a, p = (torch.from_numpy(rows.x[which[part]]).to(device) for which in (anchors, positive))
        d2_ap[part] = defined_d2(a, p).cpu().numpy()
    low, high = band(d2_ap, margin, None)
    return anchors, [
        make_query(anchors, low, high),
        make_query(anchors, np.float32(0), np.float32(np.inf)),
    ]


def every_sort_of_query(rows: Rows, device: str) -> tuple[Int64Array, list[Query]]:
    """Return anchors in no order and queries of each order, with lists, identities and counts."""
    _, (in_band, _) = usual_queries(rows, device)
    anchors = np.random.default_rng(0).permutation(rows.ids.size)[: rows.ids.size // 2]
    slot = np.arange(anchors.size)
    low, high = in_band.low[anchors], in_band.high[anchors]
    state = np.random.default_rng(1).integers(0, 2**63, slot.size).astype(np.uint64)
    half = np.float32(0.5)
    return anchors, [
        make_query(slot, low, high),
        make_query(slot, np.float32(0), np.float32(np.inf), wanted=3),
        make_query(slot, low, np.float32(np.inf), wanted=3, distinct=True),
        make_query(slot, np.float32(0), low, wanted=2, order=FARTHEST),
        make_query(slot, low, half * (low + high), wanted=2, order=HASH, state=state),
        make_query(slot, np.float32(0), half * low, wanted=8, counted=True),
    ]
