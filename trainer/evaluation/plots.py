"""The curves and histograms of a run: ROC, d2, loss, staleness.

Each function takes data and a path and publishes one PNG there, whole or not at all; any thread
may draw. `pictures.triplet_page` shows triplets, `pictures.mining_page` what mining found.

    roc({"before": roc_points(d2_0, is_same), "after": roc_points(d2_1, is_same)}, path)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.runs.vocabulary import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    WHEN_CONSUMED,
)
from facequarry.trainer.evaluation.figure import new_axes, new_figure, publish_figure, stairs

Floats = npt.NDArray[np.floating] | Sequence[float]
Counts = npt.NDArray[np.integer] | Sequence[int]
Gappy = npt.NDArray[np.floating] | Sequence[float | None]

_CURVES = (GREY, BLUE, ORANGE, GREEN, PURPLE)


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitD2:
    """The d2 of verification pairs, by kind, squared L2, 0..4."""

    same: Floats
    """Pairs of one identity."""
    different: Floats
    """Pairs of two identities."""
    threshold: float | None = None
    """Drawn where given: pairs below it are taken for the same identity."""


def roc(
    curves: Mapping[str, tuple[Floats, Floats]], path: Path, *, least_far: float = 1e-4
) -> None:
    """Draw the ROC of each label over a logarithmic false accept rate.

    Args:
        curves: (far, tar) by label, both ascending, 0..1; at most five, the first of several grey.
        path: the PNG to publish.
        least_far: where the picture begins, 1e-4 to 0.1: below it there are too few pairs to say
            anything.

    Raises:
        BadInput: there is no curve or more than five, or one is empty or uneven.
    """
    if not 1 <= len(curves) <= len(_CURVES):
        raise BadInput(f"{len(curves)} ROC curves, expected 1 to {len(_CURVES)}")
    figure = new_figure(6.4, 4.6)
    axes = new_axes(figure, "Verification ROC", "false accept rate (log)", "true accept rate")
    chance = np.logspace(-4, 0, 200)
    axes.plot(chance, chance, color=GREY, linewidth=1, linestyle=":", label="chance")
    colors = _CURVES if len(curves) > 1 else (BLUE,)
    for (label, (far, tar)), color in zip(curves.items(), colors, strict=False):
        far, tar = _even(f"ROC curve {label!r}", far, tar)
        # Drawn as steps: between two corners no threshold reaches the straight line.
        axes.step(far, tar, where="post", color=color, linewidth=1.8, label=label)
    axes.set(xscale="log", xlim=(min(max(least_far, 1e-4), 0.1), 1), ylim=(0, 1.01))
    publish_figure(figure, path)


def d2_histograms(pairs: SplitD2, path: Path, *, title: str = "Verification pairs") -> None:
    """Draw how far apart same and different pairs lie, on the whole range of d2.

    Raises:
        BadInput: one kind has no pairs.
    """
    figure = new_figure(6.4, 3.6)
    axes = new_axes(figure, title, "d2 (squared L2)", "share of its kind")
    axes.set_ylim(0, _draw_d2(axes, pairs))
    publish_figure(figure, path)


def d2_histograms_before_after(before: SplitD2, after: SplitD2, path: Path) -> None:
    """Draw the histograms before and after training, one above the other on the same axes.

    Raises:
        BadInput: one kind has no pairs.
    """
    figure = new_figure(6.4, 5.4)
    upper = new_axes(figure, "Before training", "", "share of its kind", position=211)
    lower = new_axes(figure, "After training", "d2 (squared L2)", "share of its kind", position=212)
    lower.sharex(upper)
    lower.sharey(upper)
    upper.tick_params(labelbottom=False)
    upper.set_ylim(0, max(_draw_d2(upper, before), _draw_d2(lower, after)))
    # The counts and thresholds of the two differ: each gets its own legend.
    for axes in (upper, lower):
        axes.legend(loc="upper right", frameon=False, fontsize=9, labelcolor=INK)
    publish_figure(figure, path, legend=False)


def confusion_matrix(counts: Sequence[Sequence[int]], path: Path, *, title: str) -> None:
    """Draw which pairs a threshold takes for one identity and which for two.

    Args:
        counts: (2, 2) pairs: same, then different identities; accepted, then rejected.
        path: the PNG to publish.
        title: above the picture.

    Raises:
        BadInput: another shape, a negative count, or a kind without pairs.
    """
    pairs = np.asarray(counts)
    if pairs.shape != (2, 2) or pairs.min() < 0 or not pairs.sum(axis=1).all():
        raise BadInput(f"the confusion matrix is {counts}, expected 2 x 2 counts with both kinds")
    shares = pairs / pairs.sum(axis=1, keepdims=True)
    figure = new_figure(6.4, 3.8)
    axes = new_axes(figure, title, "verdict", "pairs")
    axes.grid(visible=False)
    # Never so dark that black text on it could not be read.
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    axes.set_xticks([0, 1], labels=["one identity", "two identities"])
    axes.set_yticks([0, 1], labels=["same", "different"])
    for (row, column), count in np.ndenumerate(pairs):
        text = f"{count:,}\n{100 * shares[row, column]:.1f} % of the row"
        axes.text(column, row, text, ha="center", va="center", color="black", fontsize=11)
    publish_figure(figure, path, legend=False)


def loss_curve(steps: Counts, losses: Gappy, refresh_steps: Counts, path: Path) -> None:
    """Draw the loss of each step, its running mean, and where new triplets took over.

    Args:
        steps: (S,) integers, ascending.
        losses: (S,) mean triplet loss of the step, squared L2; None or NaN is left out.
        refresh_steps: first step served from each generation.
        path: the PNG to publish.

    Raises:
        BadInput: the lengths differ or no loss is finite.
    """
    x, y = _even("the loss curve", steps, losses)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    if not len(y):
        raise BadInput("the loss curve has no finite loss")
    window = max(5, len(y) // 20)
    figure = new_figure(6.4, 3.8)
    axes = new_axes(figure, "Training loss", "step", "triplet loss (squared L2)")
    axes.plot(x, y, color=BLUE, alpha=0.25, linewidth=0.8, label="step")
    smooth = f"mean of the last {window} steps"
    axes.plot(x, _running_mean(y, window), color=BLUE, linewidth=1.8, label=smooth)
    _mark_refreshes(axes, refresh_steps)
    axes.set(xlim=_limits(x), ylim=(0, None))
    publish_figure(figure, path)


def shares(
    steps: Counts,
    kinds: Mapping[str, Floats],
    num_triplets: Counts,
    refresh_steps: Counts,
    path: Path,
) -> None:
    """Draw what the consumed triplets were to the network that trained on them.

    The percentages in the legend are over all triplets, as `runs.consumed` has them.

    Args:
        steps: (S,) integers, ascending.
        kinds: (S,) shares by label, those of `WHEN_CONSUMED` in its order, that add up to 1 where a
            step had a triplet.
        num_triplets: (S,) integers, the triplets of each step; a step without any is left out.
        refresh_steps: first step served from each generation.
        path: the PNG to publish.

    Raises:
        BadInput: the lengths differ or no step had a triplet.
    """
    drawn = {
        label: _even(f"the share of {label!r}", steps, share) for label, share in kinds.items()
    }
    _, weights = _even("the triplets of the shares", steps, num_triplets)
    known = weights > 0
    if not known.any():
        raise BadInput("no step had a triplet, so there are no shares to draw")
    x = np.asarray(steps, dtype=float)[known]
    window = max(5, len(x) // 40)
    smooth = [_running_mean(share[known], window) for _, share in drawn.values()]
    labels = [
        f"{label} ({100 * np.average(y, weights=weights):.0f} %)" for label, (_, y) in drawn.items()
    ]
    figure = new_figure(6.4, 3.8)
    title = "Consumed triplets, as the trainer's own forward pass sees them"
    axes = new_axes(figure, title, "step", f"share, mean of the last {window} steps")
    colors = [kind.color for kind in WHEN_CONSUMED]
    axes.stackplot(x, *smooth, colors=colors, labels=labels, linewidth=0, alpha=0.7)
    _mark_refreshes(axes, refresh_steps, color=INK)
    axes.set(xlim=_limits(x), ylim=(0, 1))
    publish_figure(figure, path)


def staleness(steps: Counts, staleness_steps: Gappy, bound: float, path: Path) -> None:
    """Draw the age of the consumed triplets, in steps, under its bound.

    Args:
        steps: (S,) integers, ascending.
        staleness_steps: (S,) step minus mined_at_step; None or NaN where triplets are random.
        bound: what the staleness may not reach, in steps.
        path: the PNG to publish.

    Raises:
        BadInput: the lengths differ or there is no staleness.
    """
    x, y = _even("the staleness curve", steps, staleness_steps)
    if np.isnan(y).all():
        raise BadInput("the staleness curve has no value: no mined triplet was consumed")
    figure = new_figure(6.4, 3.4)
    axes = new_axes(figure, "Age of the consumed triplets", "step", "staleness (steps)")
    axes.axhline(bound, color=ORANGE, linewidth=1.4, linestyle="--", label=f"bound: {bound:g}")
    highest = float(np.nanmax(y))
    axes.plot(x, y, color=BLUE, linewidth=1.4, label=f"measured, at most {highest:g}")
    axes.set(xlim=_limits(x), ylim=(0, 1.1 * max(bound, highest, 1)))
    publish_figure(figure, path)


def _draw_d2(axes: Axes, pairs: SplitD2) -> float:
    """Draw one panel and return how high its vertical axis has to reach."""
    edges, tallest = np.linspace(0, 4, 81), 0.0
    for values, color, kind in (
        (pairs.same, BLUE, "same"),
        (pairs.different, ORANGE, "different"),
    ):
        if not len(values):
            raise BadInput(f"the d2 histogram has no {kind}-identity pairs")
        counts, _ = np.histogram(np.clip(np.asarray(values, dtype=float), 0, 4), edges)
        label = f"{kind} ({len(values):,} pairs)"
        tallest = max(tallest, stairs(axes, counts, edges, color, label))
    if pairs.threshold is not None:
        label = f"threshold: {pairs.threshold:.2f}"
        axes.axvline(pairs.threshold, color=INK, linewidth=1.2, linestyle="--", label=label)
    axes.set_xlim(0, 4)
    return 1.1 * tallest


def _mark_refreshes(axes: Axes, refresh_steps: Counts, *, color: str = ORANGE) -> None:
    if len(refresh_steps):
        axes.vlines(
            refresh_steps,
            0,
            0.06,
            transform=axes.get_xaxis_transform(),
            color=color,
            linewidth=1.6,
            clip_on=False,
            label="new triplets take over",
        )


def _running_mean(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """Return the mean of each value and up to `window - 1` before it."""
    totals = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: npt.NDArray[np.float64] = (totals[ends] - totals[starts]) / (ends - starts)
    return means


def _even(
    what: str, x: Floats | Counts, y: Gappy | Counts
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    across = np.asarray(x, dtype=np.float64)
    up = np.asarray(y, dtype=np.float64)
    if across.ndim != 1 or across.shape != up.shape or not len(across):
        raise BadInput(
            f"{what} has shapes {across.shape} and {up.shape}, expected two equal lengths above 0"
        )
    return across, up


def _limits(x: npt.NDArray[np.float64]) -> tuple[float, float]:
    return float(x[0]), float(max(x[-1], x[0] + 1))
