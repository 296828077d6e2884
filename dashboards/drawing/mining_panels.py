"""The figures of mining: when refreshes ran, what they cost and what they found.

mining_panels.timeline(facts.refreshes, facts.steps, elapsed_s=facts.elapsed_s)
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from facequarry.dashboards.drawing.look import HEIGHT, Floats, Ints, clear, new_figure, stairs
from facequarry.dashboards.facts.read import StepCurves
from facequarry.datasets.runs.refreshes import Refresh
from facequarry.datasets.runs.vocabulary import (
    BLUE,
    GREEN,
    ORANGE,
    OUTCOMES,
    RED,
    REFRESH_STAGES,
    names,
)

TIMELINE_COLORS = {
    "consumed": clear(GREEN, 0.35),
    "refresh": BLUE,
    "running": clear(BLUE, 0.45),
    "failed": RED,
}
_MOST_ROWS = 24


def timeline(refreshes: Sequence[Refresh], steps: StepCurves, *, elapsed_s: float) -> go.Figure:
    """Draw when each generation was mined and when training consumed it; failures in red."""
    shown = _shown(refreshes)
    labels = {r.generation: f"gen {r.generation} at {r.mined_at_step}" for r in shown}
    figure = new_figure("minutes of the run", "", height=timeline_height(refreshes))
    bars: dict[str, list[tuple[str, float, float, str]]] = {word: [] for word in TIMELINE_COLORS}
    firsts = sorted({r.first_step for r in refreshes if r.first_step is not None})
    for refresh in shown:
        label = labels[refresh.generation]
        if refresh.first_step is not None and len(steps):
            later = [first for first in firsts if first > refresh.first_step]
            began_s = _begin_of(steps, refresh.first_step)
            ended_s = _begin_of(steps, later[0]) if later else float(steps.at_s[-1])
            text = f"consumed from step {refresh.first_step}"
            bars["consumed"].append((label, began_s, ended_s, text))
        word = {"cut off": "failed", "published": "refresh"}.get(refresh.outcome, refresh.outcome)
        bars[word].append((label, refresh.began_s, refresh.ended_s, _story(refresh)))
    for word, color in TIMELINE_COLORS.items():
        figure.add_bar(
            orientation="h",
            name=word,
            y=[label for label, *_ in bars[word]],
            base=[began_s / 60 for _, began_s, _, _ in bars[word]],
            x=[(ended_s - began_s) / 60 for _, began_s, ended_s, _ in bars[word]],
            customdata=[text for *_, text in bars[word]],
            hovertemplate="%{customdata}<extra>generation %{y}</extra>",
            # The outline keeps a refresh of a second visible in a run of hours.
            marker={"color": color, "line": {"color": color, "width": 1.5}},
        )
    figure.update_layout(barmode="overlay", bargap=0.35, hovermode="closest")
    order = [labels[generation] for generation in sorted(labels)]
    figure.update_yaxes(
        autorange="reversed", type="category", categoryorder="array", categoryarray=order
    )
    figure.update_xaxes(range=[0, max(elapsed_s / 60, 0.1)])
    return figure


def timeline_height(refreshes: Sequence[Refresh]) -> int:
    """Return the height of the timeline, px: a row for each generation that it shows."""
    rows = {refresh.generation for refresh in _shown(refreshes)}
    return max(HEIGHT, 90 + 17 * len(rows))


def cost(refreshes: Sequence[Refresh]) -> go.Figure:
    """Draw how long each published refresh took, by stage, and how long it should have taken."""
    published = [refresh for refresh in refreshes if refresh.seconds]
    figure = new_figure("generation", "seconds")
    # Stages of one colour are one bar: the small ones matter together.
    for color in dict.fromkeys(stage.color for stage in REFRESH_STAGES):
        stages = [stage for stage in REFRESH_STAGES if stage.color == color]
        figure.add_bar(
            x=[refresh.generation for refresh in published],
            y=[sum(refresh.seconds.get(s, 0.0) for s in names(stages)) for refresh in published],
            name=", ".join(stage.label for stage in stages),
            marker={"color": color, "line": {"width": 0}},
            hovertemplate="%{y:.2f} s",
        )
    if planned := [refresh for refresh in published if refresh.forecast_s is not None]:
        figure.add_scatter(
            x=[refresh.generation for refresh in planned],
            y=[refresh.forecast_s for refresh in planned],
            name="forecast",
            mode="markers",
            marker={"color": RED, "symbol": "line-ew-open", "size": 14},
            hovertemplate="%{y:.2f} s",
        )
    figure.update_layout(barmode="stack", bargap=0.3)
    figure.update_xaxes(dtick=max(1, len(published) // 12))
    return figure


def pairs(refreshes: Sequence[Refresh]) -> go.Figure:
    """Draw what became of the pairs of each generation, as stacked shares."""
    published = [refresh for refresh in refreshes if refresh.counts.get("pairs")]
    figure = new_figure("generation", "share of pairs")
    for outcome in OUTCOMES:
        counts = [refresh.counts.get(outcome.name, 0) for refresh in published]
        pairs = [refresh.counts["pairs"] for refresh in published]
        figure.add_bar(
            x=[refresh.generation for refresh in published],
            y=[count / total for count, total in zip(counts, pairs, strict=True)],
            customdata=counts,
            name=outcome.label,
            marker={"color": outcome.color, "line": {"width": 0}},
            hovertemplate="%{customdata:,} pairs, %{y:.1%}",
        )
    figure.update_layout(barmode="stack", bargap=0.3)
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    figure.update_xaxes(dtick=max(1, len(published) // 12))
    return figure


def histograms(d2_ap: Ints, d2_an: Ints, edges: Floats, margin: float) -> go.Figure:
    """Draw where positives and nearest negatives lie, and the band of the median pair."""
    positives, negatives = (np.asarray(counts, np.float64) for counts in (d2_ap, d2_an))
    below = np.concatenate([[0], np.cumsum(positives)]) / max(positives.sum(), 1)
    median = float(np.interp(0.5, below, edges))
    used = np.flatnonzero(positives + negatives)
    limits = (0.0, 4.0) if not len(used) else (edges[used[0]], edges[used[-1] + 1])
    span = (max(0.0, limits[0] - margin), min(4.0, limits[1] + margin))
    figure = new_figure("d2 (squared L2)", "share", x_range=span, height=325)
    figure.add_vrect(
        x0=median,
        x1=median + margin,
        fillcolor=clear(GREEN, 0.16),
        line_width=0,
        layer="below",
        annotation={"text": "median pair's band", "font": {"color": GREEN, "size": 11}},
        annotation_position="top left",
    )
    stairs(figure, positives, edges, BLUE, "anchor to positive (pairs)")
    stairs(figure, negatives, edges, ORANGE, "anchor to nearest negative (anchors)")
    return figure


def _shown(refreshes: Sequence[Refresh]) -> list[Refresh]:
    newest = max((refresh.generation for refresh in refreshes), default=0)
    return [refresh for refresh in refreshes if refresh.generation > newest - _MOST_ROWS]


def _story(refresh: Refresh) -> str:
    stages = ", ".join(
        f"{stage.label} {refresh.seconds[stage.name]:.2f} s"
        for stage in REFRESH_STAGES
        if stage.name in refresh.seconds
    )
    parts = [f"{refresh.outcome}, mined at step {refresh.mined_at_step}", stages, refresh.reason]
    return "<br>".join(html.escape(part) for part in parts if part)


def _begin_of(steps: StepCurves, step: int) -> float:
    """Return when the step before `step` ended: then `step` began."""
    return float(steps.at_s[max(int(np.searchsorted(steps.step, step)) - 1, 0)])
