"""Float16 factors of float32 rows, and how far their product can be from the defined d2.

Float16 runs as fast as bfloat16 on tensor cores and keeps 11 bits where bfloat16 keeps 8; the
elements of unit rows never leave its range. One factor a row leaves the bound near 1e-3 in d2.
Where that leaves too much undecided, each row is split in two, x = high + low + rest, and three
products high.high + high.low + low.high, laid end to end as one product of three times the width,
bring the bound near 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

LEVELS = (1, 3)
"""Products per pair of rows, the cheapest first."""

# Error of each addition in a float32 accumulator, relative to the largest magnitude met.
_ADDITION = 2.0**-23
# Additions per element: a matrix instruction of depth 4 adds 5 numbers and rounds once more.
_ADDITIONS = 1.5
_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class Factors:
    """R rows as float16 factors."""

    halves: torch.Tensor
    """(R, K) float16; K is the level's products times the padded dimension."""

    lost: torch.Tensor
    """(R,) float64, norm of what the factors leave out of each row."""

    low: torch.Tensor
    """(R,) float64, norm of the low part: what the product of the two low parts is bounded by."""


def split(x: torch.Tensor, level: int, width: int, *, is_gallery: bool) -> Factors:
    """Split rows into factors.

    Args:
        x: (R, D) float32.
        level: one of `LEVELS`.
        width: D padded; the padding is zero.
        is_gallery: the order of the parts: high low high for the gallery, high high low for
            anchors, so that the products of equal places are those that are wanted.
    """
    halves = torch.zeros((len(x), level * width), dtype=torch.float16, device=x.device)
    lost = torch.empty(len(x), dtype=torch.float64, device=x.device)
    low = torch.zeros_like(lost)
    for begin in range(0, len(x), _ROWS):
        rows = x[begin : begin + _ROWS]
        high = rows.half()
        rest = rows.double() - high.double()
        parts = [high]
        if level > 1:
            small = rest.half()
            rest -= small.double()
            parts = [high, small, high] if is_gallery else [high, high, small]
            low[begin : begin + _ROWS] = small.double().norm(dim=1)
        lost[begin : begin + _ROWS] = rest.norm(dim=1)
        for place, part in enumerate(parts):
            at = place * width
            halves[begin : begin + _ROWS, at : at + x.shape[1]] = part
    return Factors(halves=halves, lost=lost, low=low)


def distance_error(
    anchors: Factors, gallery: Factors, largest_norm2: float, norm2_spread: float
) -> torch.Tensor:
    """Bound how far a distance taken from the product of the factors can be from the defined d2.

    The distance is |a|^2 + c - 2 s, with one constant c in the middle of all |b|^2 and s the
    accumulated product of the factors. With a = h + r, h the sum of the parts and r the rest,

        a.b - h_a.h_b = r_a.b + h_a.r_b <= |r_a| R + (R + |r_a|) |r_b|   (Cauchy-Schwarz),

    and three products leave low_a.low_b <= |low_a| |low_b| out of h_a.h_b. These norms are
    taken of the rounding errors themselves, in float64. Products of float16 numbers are exact in
    float32. A matrix unit may align the numbers that it adds to the largest of them and cut them
    off instead of rounding (Fasi et al. 2021, Numerical behavior of NVIDIA tensor cores), so each
    of at most 1.5 K additions errs by 2^-23 of a magnitude that no partial sum exceeds: the sum
    of |products|, at most (|high| + |low|)^2 <= 1.01 R^2. Twice all that, and

    - half the spread of |b|^2 for c;
    - 2^-20 R^2 for the rounding of d2's definition (4 R^2 2^-24), of the subtraction by which the
      kernel compares (as much), and for float64.

    Args:
        anchors: factors of A anchors.
        gallery: factors of all rows.
        largest_norm2: R^2.
        norm2_spread: largest less smallest |b|^2.

    Returns:
        (A,) float64, squared L2.
    """
    radius = largest_norm2**0.5
    most_lost, most_low = gallery.lost.max(), gallery.low.max()
    left_out = anchors.lost * radius + (radius + anchors.lost) * most_lost + anchors.low * most_low
    additions = _ADDITIONS * anchors.halves.shape[1]
    accumulated = 1.01 * largest_norm2 * additions * _ADDITION
    error: torch.Tensor = 2 * (left_out + accumulated)
    return error + (norm2_spread / 2 + largest_norm2 * 2.0**-20)
