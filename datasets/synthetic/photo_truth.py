"""What every photo of a synthetic set is, whatever its folder says, and the tables that say so."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from facequarry.datasets.synthetic.photo_plan import PhotoPlan, source_of
from facequarry.datasets.synthetic.scene import Box, Scene

LOOSE_BB = "loose_bb.csv"
"""The named person's head in every photo, as VGGFace2 writes it."""
TRUTH = "truth.csv"
"""Whom every photo truly shows and how; the fields of `PhotoTruth` but for the box."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoTruth:
    """What one photo is."""

    source: str
    """Its path in the set; the folder names the identity that it is said to show."""
    shows: str
    """The identity that it shows."""
    copy_of: str
    """The path of the photo that it repeats; empty for an original."""
    bystanders: int
    """How many other people it shows."""
    yaw_degrees: int
    glasses: str
    """Their style: thin, thick, square or sun; empty without."""
    hat: str
    beard: str
    """A beard beyond the person's own."""
    occluder: str
    blur: str
    """`focus` or `motion`; empty where it was not asked for."""
    box: Box
    """The loose box round the person's head: left, top, width, height, px."""

    @property
    def is_label_error(self) -> bool:
        """Say whether the folder names another person."""
        return not self.source.startswith(f"{self.shows}/")


def truth_of(plan: PhotoPlan, scene: Scene, box: Box) -> PhotoTruth:
    """Return what a photo is; a copy has its original's scene and a box of its own."""
    shot = scene.named[1]
    extras = shot.extras
    return PhotoTruth(
        source=plan.source,
        shows=f"n{plan.shows:06d}",
        copy_of="" if plan.copy_of is None else source_of(*plan.copy_of),
        bystanders=len(scene.people) - 1,
        yaw_degrees=round(math.degrees(shot.yaw)),
        glasses=extras.glasses or ("thin" if shot.glasses else ""),
        hat=extras.hat or "",
        beard=extras.beard or "",
        occluder=extras.occluder or "",
        blur=extras.blur or "",
        box=box,
    )


def write_tables(folder: Path, truths: Sequence[PhotoTruth]) -> None:
    """Write `loose_bb.csv` and `truth.csv` into the folder that holds the identities' folders."""
    lines = ["NAME_ID,X,Y,W,H"]
    for truth in truths:
        name = truth.source.removesuffix(".jpg")
        lines.append(f'"{name}",' + ",".join(map(str, truth.box)))
    (folder / LOOSE_BB).write_text("\n".join(lines) + "\n", encoding="ascii")
    columns = [field.name for field in fields(PhotoTruth) if field.name != "box"]
    with (folder / TRUTH).open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([getattr(truth, name) for name in columns] for truth in truths)
