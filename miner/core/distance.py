"""The one distance and the band, and how far a fast product may be off.

d2 of two rows is *defined* as the float32 rounding of the sum of (a_i - b_i)^2, accumulated in
float64 in index order over the float32 rows as given. Rows whose norm is within `NORM_TOLERANCE`
of 1 count as unit length and are not touched. Every decision and every tie of the miner uses this
d2 (`miner.kernels.d2_of`); a matrix product or an index only filters, and whatever lies within its
proven error of a limit is decided by the defined d2. Results therefore depend on neither the
engine (while it searches exhaustively) nor the tile size nor the number of threads.
"""

from __future__ import annotations

import numpy as np
import torch

from facequarry.miner.kernels.layout import Float32Array

NORM_TOLERANCE = 1e-3

# Unit roundoff of the inputs to a float32 product, by what torch was allowed to use: full float32,
# TensorFloat32 (10 stored bits), bfloat16 (7).
_INPUT_ROUNDOFF = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}
_FLOAT32_ROUNDOFF = 2.0**-24

UNDERFLOW = 2.0**-149
"""Half of the least float32 above 0, and as much again: relative bounds do not hold down there."""


def band(
    d2_ap: Float32Array, margin: float, floor: float | None
) -> tuple[Float32Array, Float32Array]:
    """Return the band of each pair as a closed interval of float32 values.

    The band is d2_ap < d2_an < edge, open at both ends, with edge = float32(d2_ap + margin).
    Between neighbouring floats that is [nextafter(d2_ap, inf), nextafter(edge, -inf)].

    Args:
        d2_ap: (T,) float32.
        margin: squared L2.
        floor: negatives with d2 < float32(floor) do not exist; None has no floor.

    Returns:
        low and high, (T,) float32; low > high where the band is empty.
    Source: FaceNet (Schroff et al. 2015), section 3.2.
    """
    low = np.nextafter(d2_ap, np.float32(np.inf))
    high = np.nextafter(edge(d2_ap, margin), np.float32(-np.inf))
    return np.maximum(low, lowest(floor)), high


def edge(d2_ap: Float32Array, margin: float) -> Float32Array:
    """Return the upper edge of each band, float32(d2_ap + margin), summed in float64."""
    upper: Float32Array = (d2_ap.astype(np.float64) + margin).astype(np.float32)
    return upper


def lowest(floor: float | None) -> np.float32:
    """Return the smallest d2 that a negative may have, given the duplicate floor."""
    return np.float32(0 if floor is None else floor)


def product_share(dimension: int, precision: str = "highest") -> float:
    """Bound how far a distance taken from a float32 product can be from the defined d2.

    The distance is |a|^2 + |b|^2 - 2 a.b, with the product, half of each norm and their sum in
    float32; a and b are the rows taken from the gallery's centre, rounded to float32. With
    s = |a| + |b|, so that |a||b| <= s^2 / 4 and d2 <= s^2, u = 2^-24 and gamma_D = D u / (1 - D u),
    a float32 inner product in any order, fused or not, errs by at most gamma_D sum |a_i b_i| <=
    gamma_D |a||b| (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). If the
    hardware first rounds the inputs with roundoff v, each product is off by a factor (1 + v)^2
    besides. Together, as shares of s^2:

    - (gamma_D + (2 v + v^2) (1 + gamma_D)) / 2 for -2 a.b;
    - u for taking them from the centre: with |r| <= u |a| and |t| <= u |b| what they lose,
      2 (|a||t| + |r||b|) and terms of u^2;
    - 3.25 u for the norms: half of each is rounded to float32 (u / 2 both), so is their sum
      (u / 2), and so is what is left when it is taken from the product (u / 2), all twice, and a
      little more for terms of u^2;
    - u for the rounding in the definition; and as much as the last three again for float64, limits
      included, and the terms of u^2.

    To that comes `UNDERFLOW`. Cutting what is left to a measure loses less than one unit, which
    `engines.products` adds; a unit is 2^-87 at least, far above what D products lose by underflow.

    Args:
        dimension: D.
        precision: what `torch.get_float32_matmul_precision()` says.

    Returns:
        The bound as a share of s^2.
    """
    gamma = dimension * _FLOAT32_ROUNDOFF / (1 - dimension * _FLOAT32_ROUNDOFF)
    rounded_inputs = _INPUT_ROUNDOFF[precision] * (2 + _INPUT_ROUNDOFF[precision])
    product = (gamma + rounded_inputs * (1 + gamma)) / 2
    return product + 10.5 * _FLOAT32_ROUNDOFF


def code_share() -> float:
    """Bound what is left of the error of a distance taken from int8 codes, apart from residuals.

    With a = s A + r and b = s B + t, both taken from the centre, where A and B are vectors of whole
    numbers and their product A.B is an exact sum, a.b = s^2 A.B + s A.t + r.b. By Cauchy-Schwarz,
    and since |s A| <= |a| + |r|,

        |d2 - (|a|^2 + |b|^2 - 2 s^2 A.B)| <= 2 ((|a| + |r|) |t| + |r| |b|),

    which `miner.kernels` takes from each row's own residual. What remains is the rounding of |a|^2
    and |b|^2 to whole units, half a unit each, and `UNDERFLOW`, which `engines.products` adds; and
    the rounding in the definition, u (|a| + |b|)^2, and as much again for float64.

    Returns:
        The last two as a share of (|a| + |b|)^2.
    """
    return 2 * _FLOAT32_ROUNDOFF


def index_error(dimension: int, largest_norm2: float) -> float:
    """Bound how far a distance that a flat FAISS index returns can be from the defined d2.

    FAISS either sums squared differences or takes |a|^2 + |b|^2 - 2 a.b, all in float32: at most
    (D + 2) roundings over terms that add up to no more than 4 R^2. FAISS never rounds its inputs.
    """
    roundoff = _FLOAT32_ROUNDOFF
    terms = dimension + 4
    gamma = terms * roundoff / (1 - terms * roundoff)
    return 4 * largest_norm2 * gamma + 16 * largest_norm2 * roundoff + 2.0**-40


def float32_precision() -> str:
    """Return what torch may do to the inputs of a float32 product: highest, high or medium."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # set through torch's newer options, which this call does not speak of
        return "medium"
