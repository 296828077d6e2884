"""How well d2 tells same from different: verification figures and retrieval figures.

Pure functions over distances and embeddings; `face_pairs.py` chooses the pairs, `plots.py` draws
the curves.

    verification = verify(pair_d2(embeddings, pairs.left, pairs.right), pairs.is_same)
    print(verification.auc, verification.tar_at_far["1e-3"])
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.metrics import roc_auc_score, roc_curve

from facequarry.datasets.disk.errors import BadInput
from facequarry.trainer.evaluation.face_pairs import BoolArray, FloatArray

FARS = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}
"""The false accept rates that are reported, by the name under which they are."""
MIN_FALSE_ACCEPTS = 10
"""A rate is measured only where it allows this many false accepts: below, it is noise."""
_TILE_ROWS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What `verify` measured. Rates are shares, 0..1; a pair is accepted when d2 < threshold."""

    num_same: int
    """Pairs of one identity."""
    num_different: int
    """Pairs of two identities."""
    auc: float
    """Area under the ROC: how often a same pair is nearer than a different one, ties half."""
    eer: float
    """Equal error rate: where the ROC, drawn in straight lines, has FAR = 1 - TAR."""
    tar_at_far: dict[str, float | None]
    """True accept rate at each of `FARS`; None (n/a) where FAR < 10 / num_different."""
    accuracy: float | None
    """Mean over the folds, with the threshold chosen on the other folds; None below two folds."""
    accuracy_std: float | None
    """Standard deviation over the folds (divided by n - 1, as in the protocol)."""
    num_folds: int
    """Folds that hold pairs of both kinds: the accuracy is a mean over these."""
    num_left_out_same: int
    """Same pairs that the accuracy leaves out; every other figure counts them."""
    num_left_out_different: int
    """Different pairs that the accuracy leaves out: between two folds, or in no whole one."""
    threshold_d2: float
    """Threshold of best accuracy on all pairs, squared L2."""
    true_accepts: int
    """Same pairs below the threshold."""
    false_rejects: int
    """Same pairs at or above the threshold."""
    false_accepts: int
    """Different pairs below the threshold."""
    true_rejects: int
    """Different pairs at or above the threshold."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them: numbers, null, and one object of TAR by FAR."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrieval:
    """What `retrieval` measured: means over the queries, 0..1."""

    num_queries: int
    """Faces whose identity has another face: the others can find nothing."""
    precision_at_1: float
    """Share of queries whose nearest other face has their identity."""
    map_at_r: float
    """Mean average precision at R, R being how many other faces a query's identity has."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return dataclasses.asdict(self)


def verify(
    d2: FloatArray,
    is_same: BoolArray,
    fold_of: npt.NDArray[np.integer] | None = None,
    *,
    num_folds: int = 10,
    seed: int = 0,
) -> Verification:
    """Measure how well a threshold on d2 separates same from different pairs.

    Accuracy is the mean of the share of same pairs accepted and the share of different pairs
    rejected. On folds with as many of either, as the LFW protocol has them, it is plain accuracy;
    on others it is not moved by their proportion. Thresholds lie midway between two measured d2;
    among equally good ones the lowest is taken.

    Args:
        d2: (P,) float32, squared L2 on unit rows, 0..4.
        is_same: (P,) bool.
        fold_of: (2, P) integer, the folds of each pair's two identities (`folds.py`), or (P,)
            where the two are one. A fold judges the pairs inside it, by a threshold chosen on the
            pairs that have neither face in it: so the accuracy is one on unseen people. None deals
            the pairs out at random, each kind evenly.
        num_folds: how many folds to deal out when `fold_of` is None, at least 2.
        seed: of that deal.

    Raises:
        BadInput: shapes or lengths disagree, a d2 is not a finite number of at least 0, or there
            is no pair of one kind.
    Source: LFW protocol, Huang et al. 2007, section IV (10 folds, threshold from the other nine).
    """
    d2, is_same = _checked(d2, is_same)
    if fold_of is None:
        fold_of = _random_folds(is_same, num_folds, seed)
    if fold_of.shape not in (d2.shape, (2, *d2.shape)):
        raise BadInput(
            f"fold_of has shape {fold_of.shape}, expected {d2.shape} as d2 has, or two such rows"
        )
    accuracies, judged = _accuracies(d2, is_same, np.broadcast_to(fold_of, (2, *d2.shape)))
    threshold = _best_threshold(d2, is_same)
    accepted = d2 < threshold
    far, tar = roc_points(d2, is_same)
    return Verification(
        num_same=int(is_same.sum()),
        num_different=int((~is_same).sum()),
        auc=float(roc_auc_score(is_same, -d2)),
        eer=_equal_error_rate(far, tar),
        tar_at_far={name: _tar_at(d2, is_same, rate) for name, rate in FARS.items()},
        accuracy=float(np.mean(accuracies)) if accuracies else None,
        accuracy_std=float(np.std(accuracies, ddof=1)) if accuracies else None,
        num_folds=len(accuracies),
        num_left_out_same=int((is_same & ~judged).sum()),
        num_left_out_different=int((~is_same & ~judged).sum()),
        threshold_d2=threshold,
        true_accepts=int((accepted & is_same).sum()),
        false_rejects=int((~accepted & is_same).sum()),
        false_accepts=int((accepted & ~is_same).sum()),
        true_rejects=int((~accepted & ~is_same).sum()),
    )


def roc_points(
    d2: FloatArray, is_same: BoolArray
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (far, tar), float64, both ascending from 0 to 1: the ROC's corners.

    Raises:
        BadInput: as `verify` does.
    """
    d2, is_same = _checked(d2, is_same)
    far, tar, _ = roc_curve(is_same, -d2)
    return far, tar


def retrieval(embeddings: FloatArray, identity_index: npt.NDArray[np.integer]) -> Retrieval:
    """Search each face among all others and measure what comes first.

    Faces alone of their identity are found wrongly but not searched for. Ties in d2 go to the
    lower row. Time grows with N squared, memory with N times the largest identity.

    Args:
        embeddings: (N, D) float32, unit rows.
        identity_index: (N,) integer.

    Raises:
        BadInput: the lengths disagree or no identity has two faces.
    Source: MAP@R from Musgrave et al. 2020, "A Metric Learning Reality Check", section 3.2.
    """
    if embeddings.ndim != 2 or identity_index.shape != embeddings.shape[:1]:
        raise BadInput(
            f"embeddings have shape {embeddings.shape} and identity_index "
            f"{identity_index.shape}, expected (N, D) and (N,)"
        )
    # The calculator keeps labels as float32, which merges large ones: number them from 0.
    _, labels, counts = np.unique(identity_index, return_inverse=True, return_counts=True)
    if not np.any(counts > 1):
        raise BadInput(f"no identity has two faces among {len(labels)}; retrieval finds nothing")
    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=_nearest_others,
    )
    measured = calculator.get_accuracy(embeddings, labels)
    return Retrieval(
        num_queries=int((counts[labels] > 1).sum()),
        precision_at_1=measured["precision_at_1"],
        map_at_r=measured["mean_average_precision_at_r"],
    )


def _nearest_others(
    query: torch.Tensor, k: int, reference: torch.Tensor, ref_includes_query: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (d2, rows), each (N, k): the nearest other rows of the same matrix, exactly."""
    rows = query.double()
    squares = rows.square().sum(dim=1)
    nearest_d2, nearest = [], []
    for start in range(0, len(rows), _TILE_ROWS):
        tile = slice(start, start + _TILE_ROWS)
        d2 = squares[tile, None] + squares - 2 * rows[tile] @ rows.T
        # Far above the product's float64 error, far below float32's: faces that are equal tie.
        d2 = d2.round(decimals=12)
        d2.diagonal(offset=start).fill_(torch.inf)
        ordered = d2.sort(dim=1, stable=True)
        nearest_d2.append(ordered.values[:, :k])
        nearest.append(ordered.indices[:, :k])
    return torch.cat(nearest_d2), torch.cat(nearest)


def _checked(d2: FloatArray, is_same: BoolArray) -> tuple[FloatArray, BoolArray]:
    d2, is_same = np.asarray(d2, dtype=np.float32), np.asarray(is_same)
    if d2.ndim != 1 or is_same.shape != d2.shape or is_same.dtype != np.bool_:
        raise BadInput(
            f"d2 has shape {d2.shape} and is_same is {is_same.dtype} of shape {is_same.shape}, "
            "expected (P,) float32 and (P,) bool"
        )
    if not np.all(np.isfinite(d2) & (d2 >= 0)):
        raise BadInput("d2 holds a value that is negative or not finite; were the rows unit?")
    if is_same.all() or not is_same.any():
        raise BadInput(
            f"{int(is_same.sum())} same and {int((~is_same).sum())} different pairs; "
            "verification needs at least one of each"
        )
    return d2, is_same


def _random_folds(is_same: BoolArray, num_folds: int, seed: int) -> npt.NDArray[np.int64]:
    if num_folds < 2:
        raise BadInput(f"num_folds is {num_folds}, expected at least 2")
    # Shuffled, with the same pairs first: dealing in turn gives each fold its part of both kinds.
    shuffled = np.random.default_rng(seed).permutation(len(is_same))
    dealt = shuffled[np.argsort(~is_same[shuffled], kind="stable")]
    fold_of = np.empty(len(is_same), dtype=np.int64)
    fold_of[dealt] = np.arange(len(is_same)) % num_folds
    return fold_of


def _accuracies(
    d2: FloatArray, is_same: BoolArray, fold_of: npt.NDArray[np.integer]
) -> tuple[list[float], BoolArray]:
    """Return the accuracy of each fold with both kinds inside and outside; and what they judged."""
    accuracies, judged = [], np.zeros(len(d2), dtype=bool)
    for fold in np.unique(fold_of):
        touches = fold_of == fold
        inside, outside = touches.all(axis=0), ~touches.any(axis=0)
        if all(len(np.unique(is_same[rows])) == 2 for rows in (inside, outside)):
            threshold = _best_threshold(d2[outside], is_same[outside])
            accuracies.append(_accuracy(d2[inside], is_same[inside], threshold))
            judged |= inside
    # One fold alone has no spread, and says little about the others.
    return (accuracies, judged) if len(accuracies) > 1 else ([], np.zeros_like(judged))


def _best_threshold(d2: FloatArray, is_same: BoolArray) -> float:
    order = np.argsort(d2, kind="stable")
    values, first = np.unique(d2[order], return_index=True)
    accepted = np.append(first, len(d2))
    same_below = np.concatenate([[0], np.cumsum(is_same[order])])[accepted]
    num_same = same_below[-1]
    num_different = len(d2) - num_same
    # Midway, in float32 as d2 is, and so never rounded down onto the value that it is to accept.
    midway = values[:-1] / 2 + values[1:] / 2
    between = np.where(midway > values[:-1], midway, values[1:])
    above_all = np.nextafter(values[-1], np.float32(np.inf))
    thresholds = np.concatenate([[np.float32(0)], between, [above_all]])
    # Shares right of both kinds, over one denominator: in whole numbers, equal is equal.
    different_above = num_different - (accepted - same_below)
    right = same_below * num_different + different_above * num_same
    return float(thresholds[np.argmax(right)])


def _accuracy(d2: FloatArray, is_same: BoolArray, threshold: float) -> float:
    right = (d2 < threshold) == is_same
    return float(np.mean([right[kind].mean() for kind in (is_same, ~is_same)]))


def _equal_error_rate(far: npt.NDArray[np.float64], tar: npt.NDArray[np.float64]) -> float:
    gap = far + tar - 1  # ascending from -1 to 1; zero where the two errors are equal
    after = int(np.argmax(gap >= 0))
    before = after - 1
    weight = -gap[before] / (gap[after] - gap[before])
    return float(far[before] + weight * (far[after] - far[before]))


def least_far(num_different: int) -> float:
    """Return the least false accept rate that so many different pairs can tell anything about."""
    return MIN_FALSE_ACCEPTS / num_different


def _tar_at(d2: FloatArray, is_same: BoolArray, far: float) -> float | None:
    different = np.sort(d2[~is_same])
    allowed = int(far * len(different) + 1e-9)  # 1e-3 of 10 000 is ten, whatever floats say
    if allowed < MIN_FALSE_ACCEPTS:
        return None
    return float(np.mean(d2[is_same] < different[allowed]))
