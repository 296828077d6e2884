"""The page of mined triplets: three faces, two distances, and the place in the band.

triplet_page(triplets, margin=0.2, path=run.pictures / "triplets.png")
"""

from __future__ import annotations

from collections.abc import Sequence
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
    KINDS_BY_DISTANCE,
    ORANGE,
    PALE,
    label_of,
)
from facequarry.trainer.evaluation.figure import new_figure, plain, publish_figure


@dataclass(frozen=True, kw_only=True, slots=True)
class TripletPicture:
    """One mined triplet as it is shown."""

    crops: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
    """Anchor, positive, negative: (H, W, 3) uint8, RGB."""
    names: tuple[str, str, str]
    """What is written over each crop: the identity, or identity and file."""
    d2_ap: float
    """Anchor to positive, squared L2."""
    d2_an: float
    """Anchor to negative, squared L2."""
    kind: str
    """One of `vocabulary.KINDS`, by name."""


def triplet_page(
    triplets: Sequence[TripletPicture],
    margin: float,
    path: Path,
    *,
    title: str = "Mined triplets",
) -> None:
    """Draw mined triplets as pictures, with d2 and where in its band each negative lies.

    Args:
        triplets: at least one; two stand side by side. Up to about 20 stay readable.
        margin: width of the band, squared L2.
        path: the PNG to publish.
        title: above the page.

    Raises:
        BadInput: there is no triplet, or a crop is not (H, W, 3) uint8.
    """
    if not triplets:
        raise BadInput("a page of mined triplets needs at least one triplet")
    for triplet in triplets:
        for crop in triplet.crops:
            if crop.ndim != 3 or crop.shape[2] != 3 or crop.dtype != np.uint8:
                raise BadInput(f"a crop is {crop.dtype} of shape {crop.shape}, not (H, W, 3)")
    num_columns = min(2, len(triplets))
    num_rows = -(-len(triplets) // num_columns)
    figure = new_figure(5.4 * num_columns, 2.6 * num_rows + 0.5)
    figure.suptitle(title, color=INK, fontsize=12)
    cells = figure.subfigures(num_rows, num_columns, wspace=0.04, squeeze=False)
    for cell, triplet in zip(cells.flat, triplets, strict=False):
        grid = cell.subplot_mosaic("APN;BBB", height_ratios=[6, 1])
        captions = (
            f"anchor, mined as {label_of(triplet.kind)}",
            f"positive, d2 {triplet.d2_ap:.3f}",
            f"negative, d2 {triplet.d2_an:.3f}",
        )
        for key, crop, name, caption, color in zip(
            "APN", triplet.crops, triplet.names, captions, (INK, BLUE, ORANGE), strict=True
        ):
            _draw_crop(grid[key], crop, name, caption, color)
        _draw_band(grid["B"], triplet, margin)
    publish_figure(figure, path, legend=False)


def _draw_crop(
    axes: Axes, crop: npt.NDArray[np.uint8], name: str, caption: str, color: str
) -> None:
    axes.imshow(crop)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(color=color, linewidth=2)
    axes.set_title(plain(name), fontsize=8, color=INK, parse_math=False)
    axes.set_xlabel(caption, fontsize=8, color=color)


def _draw_band(axes: Axes, triplet: TripletPicture, margin: float) -> None:
    """Draw a bar two margins wide, the band in its middle, with the negative as a dot on it."""
    place = (triplet.d2_an - triplet.d2_ap) / margin
    axes.axhline(0, color=PALE, linewidth=5, solid_capstyle="butt", zorder=0)
    axes.plot([0, 1], [0, 0], color=GREEN, alpha=0.45, linewidth=5, solid_capstyle="butt")
    marker = "<" if place < -0.5 else ">" if place > 1.5 else "o"
    axes.plot(np.clip(place, -0.48, 1.48), 0, marker, color=ORANGE, markersize=6)
    for x, kind in zip((-0.25, 0.5, 1.25), KINDS_BY_DISTANCE, strict=True):
        axes.text(x, -0.9, kind.label, ha="center", va="center", fontsize=7, color=GREY)
    axes.set(xlim=(-0.5, 1.5), ylim=(-1.3, 0.6))
    axes.axis("off")
