"""How much a refresh may embed so that it ends before the next checkpoint: pure arithmetic.

What a step, a face and a look at a gallery row take comes from the run's own events (`rates_of`).
`forecast` says from these what a refresh will take, `most_faces` turns that round. Which faces they
are is said in `rotation.py`, and `embedded_part.py` puts the two together. Derived in
docs/refresh.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from facequarry.datasets.runs.refreshes import published
from facequarry.datasets.runs.vocabulary import LOAD, OPEN, PACK, PUBLISH

RECENT_REFRESHES = 3
"""Refreshes whose median is taken: one that something else held up changes nothing."""

RECENT_STEPS = 200
"""Training steps whose median is taken."""

_FIXED_STAGES = (LOAD, OPEN, PACK, PUBLISH)


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What a refresh may take, and the least that it is worth."""

    steps: int
    """Training steps in which it has to end: those between two checkpoints, N."""
    share: float
    """Share of their seconds that it may be forecast to take."""
    least_rows: int
    """Triplets that its faces could give at least, whatever that takes."""
    first_faces: int | None = None
    """Faces of a refresh before there are rates; None: all."""

    def seconds(self, rates: Rates) -> float:
        """Return what a refresh may be forecast to take."""
        return self.share * self.steps * rates.step_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What things took of late, seconds, each a median."""

    step_s: float
    """One training step."""
    face_s: float
    """One face embedded."""
    look_s: float
    """One anchor held against one gallery row, with all that mining does beside it."""
    fixed_s: float
    """What does not depend on how much is embedded: load, open, pack, publish."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What a refresh is to embed and mine, and what that should take."""

    faces: int
    anchors: int
    probe_faces: int
    """Faces embedded beforehand, to see which identities look alike."""
    choose_s: float
    embed_s: float
    mine_s: float
    fixed_s: float
    """Load, open, pack and publish."""
    forecast_s: float
    """All of it."""
    forecast_steps: float
    """Training steps in that time."""
    budget_steps: int
    """Steps in which it has to end."""

    def to_dict(self) -> dict[str, float]:
        """Return plain values, as a manifest's timing holds them."""
        return asdict(self)


def rates_of(
    trainer: Sequence[Mapping[str, Any]], miner: Sequence[Mapping[str, Any]]
) -> Rates | None:
    """Return what things took of late; None before there was a step and a refresh.

    Args:
        trainer: `trainer` events in the order written, the last ones at least.
        miner: `miner` events in the order written.
    """
    steps = [event["step_s"] for event in trainer if event["event"] == "step"]
    refreshes = [
        event for event in published(miner) if event.get("faces") and event.get("anchors")
    ][-RECENT_REFRESHES:]
    if not steps or not refreshes:
        return None
    face_s = median(e["embed_s"] / e["faces"] for e in refreshes)
    return Rates(
        step_s=median(steps[-RECENT_STEPS:]),
        face_s=face_s,
        look_s=median(e["mine_s"] / (e["anchors"] * e["faces"]) for e in refreshes),
        fixed_s=median(_fixed_s(e, face_s) for e in refreshes),
    )


def forecast(
    rates: Rates, budget: Budget, *, faces: int, anchors: int, probe_faces: int = 0
) -> Forecast:
    """Return what a refresh should take.

    Args:
        rates: as measured.
        budget: in which it has to end.
        faces: it embeds and searches.
        anchors: it mines.
        probe_faces: it embeds beforehand.
    """
    seconds = {
        "choose_s": rates.face_s * probe_faces,
        "embed_s": rates.face_s * faces,
        "mine_s": rates.look_s * anchors * faces,
        "fixed_s": rates.fixed_s,
    }
    total_s = sum(seconds.values())
    return Forecast(
        faces=faces,
        anchors=anchors,
        probe_faces=probe_faces,
        forecast_s=total_s,
        forecast_steps=total_s / rates.step_s,
        budget_steps=budget.steps,
        **seconds,
    )


def most_faces(
    rates: Rates, budget: Budget, *, wanted_anchors: int | None, total: int, probe_faces: int = 0
) -> int:
    """Return the most faces, 0 to `total`, whose refresh is forecast to end within the budget.

    Args:
        rates: as measured.
        budget: in which it has to end.
        wanted_anchors: as many of the faces are mined, where there are as many; None mines all.
        total: faces that there are.
        probe_faces: embedded beforehand.
    """

    def fits(faces: int) -> bool:
        anchors = faces if wanted_anchors is None else min(faces, wanted_anchors)
        found = forecast(rates, budget, faces=faces, anchors=anchors, probe_faces=probe_faces)
        return found.forecast_s <= budget.seconds(rates)

    if not fits(0):
        return 0
    low, high = 0, total  # `low` fits, and so does nothing above `high`
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _fixed_s(event: Mapping[str, Any], face_s: float) -> float:
    stages = sum(float(event.get(f"{stage.name}_s") or 0.0) for stage in _FIXED_STAGES)
    # The probe is forecast by itself: what is left of the choice is the same each time.
    probe_s = face_s * (event.get("probe_faces") or 0)
    return stages + max(0.0, (event.get("choose_s") or 0.0) - probe_s)
