"""The figures that say how a run is doing, in words that fit a tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facequarry.dashboards.facts.read import Floats, RunFacts

_RECENT_STEPS = 20
_NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the headline."""

    label: str
    value: str
    below: str | None = None
    tip: str | None = None


def tiles(facts: RunFacts) -> list[Tile]:
    """Return the headline of a run; a figure that is not known yet is a dash."""
    return [*_training(facts), *_mining(facts), _auc(facts), *_faces(facts)]


def _training(facts: RunFacts) -> list[Tile]:
    steps, of = facts.steps, facts.settings.steps
    done = int(steps.step[-1]) + 1 if len(steps) else 0
    recent = slice(-_RECENT_STEPS, None)
    loss, rate = _mean(steps.loss_d2[recent]), _mean(steps.faces_per_s[recent])
    return [
        Tile("Step", f"{done:,}", f"of {of:,}" if of else None),
        Tile(
            "Loss",
            _NOTHING if loss is None else f"{loss:.3f}",
            f"last {_RECENT_STEPS} steps",
            "Triplet loss, squared L2.",
        ),
        Tile(
            "Throughput",
            _NOTHING if rate is None else f"{rate:,.0f}",
            f"faces/s, {facts.wait_share:.0%} wait",
            "Faces embedded by training per second, and the share of training time spent waiting "
            "for triplets, but for the first step of each start.",
        ),
    ]


def _mining(facts: RunFacts) -> list[Tile]:
    outcomes = [refresh.outcome for refresh in facts.refreshes]
    ages = facts.steps.staleness_steps
    ages = ages[np.isfinite(ages)]
    return [
        Tile("Refreshes", f"{outcomes.count('published')}", f"{outcomes.count('failed')} failed"),
        Tile(
            "Staleness",
            f"{ages[-1]:.0f}" if len(ages) else _NOTHING,
            _oldest(facts, float(ages.max())) if len(ages) else "steps",
            "Trainer step minus the step of the checkpoint that its triplets were mined with.",
        ),
    ]


def _oldest(facts: RunFacts, most: float) -> str:
    bound = facts.staleness_bound_steps
    return f"steps, max {most:.0f}" + ("" if bound is None else f" < {bound}")


def _auc(facts: RunFacts) -> Tile:
    aucs = [evaluation["verification"]["auc"] for evaluation in facts.evaluations]
    return Tile(
        "AUC",
        f"{aucs[-1]:.3f}" if aucs else _NOTHING,
        f"{aucs[0]:.3f} at first" if len(aucs) > 1 else None if aucs else "not evaluated yet",
        "Area under the ROC on identities that were not trained on.",
    )


def _faces(facts: RunFacts) -> list[Tile]:
    faces = facts.faces
    if faces is None:
        return [Tile("Faces", _NOTHING, "none found"), Tile("Rejects", _NOTHING)]
    identities = faces.num_identities
    by_reason = [f"{reason} {count:,}" for reason, count in faces.rejects.items()]
    return [
        Tile(
            "Faces",
            f"{faces.num_faces:,}",
            "so far" if identities is None else f"{identities:,} identities",
        ),
        Tile(
            "Rejects",
            f"{sum(faces.rejects.values()):,}",
            f"of {faces.num_photos:,} photos",
            ", ".join(by_reason) or None,
        ),
    ]


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
