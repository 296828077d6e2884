"""The look of every figure on the page, and the small arithmetic that drawing takes.

Colours come from `datasets/runs/vocabulary.py`, as those of the pictures that a run draws of itself
do, so that a curve here and a PNG there are read alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from facequarry.datasets.runs.vocabulary import GREY, INK, PALE

MOST_POINTS = 2000
HEIGHT = 290

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def new_figure(
    x: str, y: str, *, x_range: tuple[float, float] | None = None, height: int = HEIGHT
) -> go.Figure:
    """Return an empty figure with labelled axes and its legend above them."""
    figure = go.Figure()
    axis = {
        "gridcolor": PALE,
        "zeroline": False,
        "linecolor": GREY,
        "title_font": {"size": 12, "color": INK},
        "tickfont": {"size": 11, "color": INK},
        "automargin": True,
    }
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 24, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12, "family": "Source Sans, sans-serif"},
        hovermode="x unified",
        # The same revision for ever: a reader's zoom outlives the next refresh of the page.
        uirevision="keep",
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.01,
            "yanchor": "bottom",
            "traceorder": "normal",
            "font": {"size": 12},
        },
        xaxis={**axis, "title_text": x, "range": x_range},
        yaxis={**axis, "title_text": y},
    )
    return figure


def clear(color: str, alpha: float) -> str:
    """Return a `#rrggbb` colour with an opacity."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def stairs(
    figure: go.Figure, counts: Sequence[int] | Ints | Floats, edges: Floats, color: str, name: str
) -> None:
    """Add a histogram as filled stairs, each count as a share of their sum."""
    values = np.asarray(counts, np.float64)
    shares = values / max(values.sum(), 1)
    figure.add_scatter(
        x=edges,
        y=np.append(shares, shares[-1:]),
        name=name,
        line={"color": color, "width": 1.5, "shape": "hv"},
        fill="tozeroy",
        fillcolor=clear(color, 0.25),
        hovertemplate="%{y:.1%}",
    )


def thin(count: int) -> Ints:
    """Return up to `MOST_POINTS` positions out of `count`, evenly spread, the last one included."""
    positions = np.linspace(0, count - 1, min(count, MOST_POINTS)).round()
    return np.unique(positions.astype(np.int64))


def running_mean(values: Floats, window: int) -> Floats:
    """Return the mean of each value and up to `window - 1` before it, NaN left out."""
    known = np.isfinite(values)
    totals = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    inside = counts[ends] - counts[starts]
    means: Floats = np.full(len(values), np.nan)
    np.divide(totals[ends] - totals[starts], inside, out=means, where=inside > 0)
    return means
