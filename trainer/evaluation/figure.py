"""The look of every picture: sizes, axes, and how a picture is published.

No pyplot and no global settings, so any thread may draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase

from facequarry.datasets.disk.publish import staged_file
from facequarry.datasets.runs.vocabulary import GREY, INK, PALE

DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` by `height` inches, drawn off screen."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def new_axes(figure: FigureBase, title: str, x: str, y: str, *, position: int = 111) -> Axes:
    """Add axes with a title and labelled axes; `position` counts as in `add_subplot`."""
    axes: Axes = figure.add_subplot(position)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    return axes


def publish_figure(figure: Figure, path: Path, *, legend: bool = True) -> None:
    """Publish the figure as PNG, replacing an older one; `legend` names every labelled line."""
    if legend:
        labels = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
        # Under the axes, where no curve runs into it, in as many columns as the width has room for.
        columns = int(figure.get_figwidth() * 14.5) // (max(map(len, labels)) + 7)
        figure.legend(
            loc="outside lower center",
            ncols=min(max(columns, 1), 3),
            frameon=False,
            fontsize=9,
            labelcolor=INK,
        )
    with staged_file(path, replace=True) as staging:
        figure.savefig(staging, format="png")


def stairs(
    axes: Axes,
    counts: npt.NDArray[np.generic],
    edges: npt.NDArray[np.floating] | Sequence[float],
    color: str,
    label: str,
) -> float:
    """Draw counts as shares of their sum and return the largest share."""
    shares = np.asarray(counts, dtype=float) / np.sum(counts)
    axes.stairs(shares, edges, fill=True, color=color, alpha=0.3)
    axes.stairs(shares, edges, color=color, linewidth=1.4, label=label)
    return float(shares.max())


def plain(name: str, most: int = 24) -> str:
    """Return at most `most` characters that the font has: others would draw as empty boxes."""
    text = "".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in name)
    if len(text) <= most:
        return text
    return f"{text[: most // 2 - 1]}…{text[-(most - most // 2) :]}"
