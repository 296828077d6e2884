"""The contact sheet of suspects: pairs of faces side by side, the worst first, for a person.

    suspect_sheet(pictures, run.pictures / "suspects.png", title="Suspects of generation 3")

It shows faces, which are biometric data: it is drawn into the run's own folder and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.runs.vocabulary import GREY, INK, OVER_POSITIVE_CAP, UNDER_DUPLICATE_FLOOR
from facequarry.trainer.evaluation.figure import new_figure, plain, publish_figure

MOST_SHOWN = 40
"""Pairs on a sheet."""

_HEADINGS = {
    UNDER_DUPLICATE_FLOOR.name: (
        "Two identities nearer than duplicate_floor: one photo twice, or one person under two "
        "names? Nearest first",
        UNDER_DUPLICATE_FLOOR.color,
    ),
    OVER_POSITIVE_CAP.name: (
        "One identity farther apart than positive_cap: a wrong label, or a hard pose? Farthest "
        "first",
        OVER_POSITIVE_CAP.color,
    ),
}
_COLUMNS, _CELL, _HEADING, _TOP = 5, (3.2, 2.3), 0.5, 0.5
# A collapsed network sets millions of pairs aside; a sheet needs few of them.
_MOST_LOOKED_AT = 100_000
_MOST_OF_IDENTITY = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A pair that is shown."""

    reason: str
    """One of `vocabulary.REASONS`, by name."""
    face_a: int
    face_b: int
    d2: float
    """Between the two, squared L2."""
    others: int
    """Further suspect pairs of this reason with one of the two faces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuspectPicture:
    """A suspect pair as it is shown."""

    suspect: Suspect
    crops: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
    """(H, W, 3) uint8 RGB of the two faces."""
    names: tuple[str, str]
    """Their identities."""
    sources: tuple[str, str]
    """Their photos."""


def worst_suspects(
    suspects: pa.Table, identities: npt.NDArray[np.integer[Any]], most: int = MOST_SHOWN
) -> list[Suspect]:
    """Choose what to show: by reason the worst first, and no face twice for one reason.

    A face with a wrong label is far from all faces of its identity; it takes one place on the
    sheet, and the pairs that it keeps out are counted. An identity of many photos takes three.

    Args:
        suspects: `Mined.suspects`.
        identities: (N,) the identity of each face, by face_index.
        most: pairs in all; each reason has half of them, and what the other leaves.
    """
    found = {reason: _worst(suspects, identities, reason, most) for reason in _HEADINGS}
    first, second = found.values()
    share = min(len(first), max(most // 2, most - len(second)))
    return first[:share] + second[: most - share]


def suspect_sheet(pictures: Sequence[SuspectPicture], path: Path, *, title: str) -> None:
    """Draw suspects as pairs of faces.

    Args:
        pictures: at least one, in order; those of a reason follow each other.
        path: the PNG to publish; inside the run's folder.
        title: above the sheet.

    Raises:
        BadInput: there is no picture.
    """
    if not pictures:
        raise BadInput("a sheet of suspects needs at least one suspect")
    sections = {
        reason: chosen
        for reason in _HEADINGS
        if (chosen := [picture for picture in pictures if picture.suspect.reason == reason])
    }
    num_rows = sum(-(-len(chosen) // _COLUMNS) for chosen in sections.values())
    width, height = _CELL[0] * _COLUMNS, _TOP + _HEADING * len(sections) + _CELL[1] * num_rows
    figure = new_figure(width, height)
    figure.set_layout_engine("none")  # everything is placed below, in inches
    figure.text(0.5, 1 - 0.25 / height, title, ha="center", va="center", color=INK, fontsize=13)
    down = _TOP
    for reason, chosen in sections.items():
        heading, color = _HEADINGS[reason]
        place = 1 - (down + _HEADING / 2) / height
        figure.text(0.3 / width, place, heading, va="center", color=color, fontsize=11)
        down += _HEADING
        for position, picture in enumerate(chosen):
            row, column = divmod(position, _COLUMNS)
            _draw_pair(figure, picture, color, _CELL[0] * column, down + _CELL[1] * row)
        down += _CELL[1] * -(-len(chosen) // _COLUMNS)
    publish_figure(figure, path, legend=False)


def _worst(
    suspects: pa.Table, identities: npt.NDArray[np.integer[Any]], reason: str, most: int
) -> list[Suspect]:
    rows = suspects.filter(pc.equal(suspects["reason"], reason))
    face_a, face_b, d2 = (rows[name].to_numpy() for name in ("face_a", "face_b", "d2"))
    # Stable: the table is sorted by faces, and ties stay so.
    order = np.argsort(-d2 if reason == OVER_POSITIVE_CAP.name else d2, kind="stable")
    shown: set[int] = set()
    places: Counter[int] = Counter()
    chosen: list[Suspect] = []
    for row in order[:_MOST_LOOKED_AT].tolist():
        if len(chosen) == most:
            break
        pair = (int(face_a[row]), int(face_b[row]))
        whose = {int(identities[face]) for face in pair}
        if shown.isdisjoint(pair) and all(places[one] < _MOST_OF_IDENTITY for one in whose):
            shown.update(pair)
            places.update(whose)
            others = np.isin(face_a, pair) | np.isin(face_b, pair)
            chosen.append(
                Suspect(
                    reason=reason,
                    face_a=pair[0],
                    face_b=pair[1],
                    d2=float(d2[row]),
                    others=int(others.sum()) - 1,
                )
            )
    return chosen


def _draw_pair(
    figure: Figure, picture: SuspectPicture, color: str, left: float, top: float
) -> None:
    """Draw one pair; `left` and `top` in inches from the sheet's upper left corner."""
    width, height = figure.get_size_inches()
    suspect = picture.suspect
    more = f", {suspect.others:,} more pairs" if suspect.others else ""
    text = f"d2 {suspect.d2:.3f}{more}"
    middle = (left + _CELL[0] / 2) / width
    figure.text(middle, 1 - (top + 0.1) / height, text, ha="center", color=color, fontsize=9)
    side = 1.4
    faces = (suspect.face_a, suspect.face_b)
    for position, (crop, name, source, face) in enumerate(
        zip(picture.crops, picture.names, picture.sources, faces, strict=True)
    ):
        x = left + 0.13 + position * (side + 0.12)
        axes = figure.add_axes(
            (x / width, 1 - (top + 0.34 + side) / height, side / width, side / height)
        )
        axes.imshow(crop)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=color, linewidth=1.5)
        # Under the crop: whose it is said to be, and which photo that is.
        axes.set_title(plain(name, 22), fontsize=7.5, color=INK, pad=3, parse_math=False)
        file = source.rpartition("/")[2]
        axes.set_xlabel(plain(file, 24), fontsize=6.5, color=GREY, labelpad=3, parse_math=False)
        axes.text(
            0.98, 0.02, str(face), transform=axes.transAxes, ha="right", fontsize=6, color="white"
        )
