"""The figures of training and verification: from arrays to plotly figures, data in, data out.

panels.loss(facts.steps, takeovers, facts.settings.steps)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from facequarry.dashboards.drawing.look import HEIGHT, clear, new_figure, running_mean, stairs, thin
from facequarry.dashboards.facts.read import StepCurves
from facequarry.datasets.runs.vocabulary import BLUE, GREY, INK, ORANGE, WHEN_CONSUMED


def loss(steps: StepCurves, takeovers: Sequence[int], last_step: int | None) -> go.Figure:
    """Draw the loss of each step, its running mean, and where new triplets took over."""
    window = max(5, len(steps) // 20)
    figure = new_figure("step", "triplet loss (d2)", x_range=_steps_range(steps, last_step))
    shown = thin(len(steps))
    x, y = steps.step[shown], steps.loss_d2
    figure.add_scatter(x=x, y=y[shown], name="step", line={"color": clear(BLUE, 0.3), "width": 1})
    mean = running_mean(y, window)[shown]
    figure.add_scatter(
        x=x, y=mean, name=f"mean of {window} steps", line={"color": BLUE, "width": 2.5}
    )
    _mark_takeovers(figure, takeovers)
    figure.update_yaxes(rangemode="tozero")
    return figure


def staleness(
    steps: StepCurves, every: int | None, bound: float | None, last_step: int | None
) -> go.Figure:
    """Draw the age of the consumed triplets against the checkpoint interval and the bound."""
    figure = new_figure("step", "staleness (steps)", x_range=_steps_range(steps, last_step))
    figure.add_scatter(
        x=steps.step,
        y=steps.staleness_steps,
        name="step − mined_at_step",
        line={"color": BLUE, "width": 2, "shape": "hv"},
    )
    levels = [(every, GREY, "checkpoint every"), (bound, ORANGE, "bound")]
    for level, color, word in levels:
        if level:
            figure.add_scatter(
                x=_steps_range(steps, last_step),
                y=[level, level],
                mode="lines",
                name=f"{word} {level:g}",
                line={"color": color, "dash": "dash", "width": 1.5},
                hoverinfo="skip",
            )
    highest = np.nanmax(steps.staleness_steps, initial=1.0)
    figure.update_yaxes(range=[0, 1.15 * max(highest, every or 0, bound or 0)])
    return figure


def shares(steps: StepCurves, last_step: int | None, *, height: int = HEIGHT) -> go.Figure:
    """Draw where consumed triplets stand in the trainer's own forward pass, as stacked shares."""
    x_range = _steps_range(steps, last_step)
    figure = new_figure("step", "share of triplets", x_range=x_range, height=height)
    shown = thin(len(steps))
    window = max(5, len(steps) // 40)
    for kind in WHEN_CONSUMED:
        values = getattr(steps, f"{kind.name}_share")
        figure.add_scatter(
            x=steps.step[shown],
            y=running_mean(values, window)[shown],
            name=kind.label,
            stackgroup="shares",
            line={"color": kind.color, "width": 0.5},
            fillcolor=clear(kind.color, 0.55),
            hovertemplate="%{y:.0%}",
        )
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    return figure


def roc(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, least_far: float = 1e-4
) -> go.Figure:
    """Draw ROC curves, (far, tar) by label, over a logarithmic false accept rate.

    The picture begins at `least_far`, 1e-4 to 0.1: below it there are too few pairs.
    """
    figure = new_figure("false accept rate (log)", "true accept rate", height=325)
    chance = np.logspace(-4, 0, 60)
    figure.add_scatter(x=chance, y=chance, name="chance", line={"color": GREY, "dash": "dot"})
    colors = (GREY, BLUE) if len(curves) > 1 else (BLUE,)
    for (label, (far, tar)), color in zip(curves.items(), colors, strict=True):
        figure.add_scatter(
            x=far, y=tar, name=label, line={"color": color, "width": 2.5, "shape": "hv"}
        )
    figure.update_xaxes(
        type="log",
        range=[float(np.log10(min(max(least_far, 1e-4), 0.1))), 0],
        dtick=1,
        exponentformat="power",
    )
    figure.update_yaxes(range=[0, 1.02])
    return figure


def pair_histograms(histogram: Mapping[str, Any], threshold: float | None) -> go.Figure:
    """Draw how far apart same and different verification pairs lie.

    Args:
        histogram: `edges`, `same` and `different` of a `metrics.json`.
        threshold: pairs below it are taken for one identity.
    """
    figure = new_figure("d2 (squared L2)", "share of its kind", x_range=(0, 4), height=325)
    edges = np.asarray(histogram["edges"])
    stairs(figure, histogram["same"], edges, BLUE, "same identity")
    stairs(figure, histogram["different"], edges, ORANGE, "different identities")
    if threshold is not None:
        figure.add_vline(
            x=threshold,
            line={"color": INK, "dash": "dash", "width": 1.2},
            annotation={"text": f"threshold {threshold:.2f}", "font": {"size": 11}},
            annotation_position="top right",
        )
    return figure


def _mark_takeovers(figure: go.Figure, first_steps: Sequence[int]) -> None:
    for first_step in first_steps:
        figure.add_vline(x=first_step, line={"color": clear(ORANGE, 0.45), "width": 1})
    if first_steps:
        figure.add_scatter(
            x=[None], y=[None], mode="lines", name="new triplets take over", line={"color": ORANGE}
        )


def _steps_range(steps: StepCurves, last_step: int | None) -> tuple[float, float]:
    reached = float(steps.step[-1]) if len(steps) else 1.0
    return 0.0, max(reached, float(last_step or 0), 1.0)
