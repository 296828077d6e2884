"""What one refresh embeds: all identities, or the part of them that ends within the budget.

`choose` puts together what things take (`budget.py`), whose turn it is (`rotation.py`) and who
looks alike (`similarity.py`). It looks at the clock's traces in the event log, so two runs choose
differently; what was chosen is in the manifest, and a replay takes it from there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.faces.split import Split
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import read_generation_manifest
from facequarry.datasets.runs.events import EventTail, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.refresh.budget.budget import Budget, Forecast, forecast, most_faces, rates_of
from facequarry.miner.refresh.budget.rotation import Rotation, next_part, read_rotation
from facequarry.miner.refresh.budget.similarity import (
    Ints,
    centres,
    faces_to_probe,
    order_by_similarity,
    probe_faces,
)
from facequarry.miner.refresh.recipe import RefreshPlan, resolve_device, rows_of
from facequarry.miner.refresh.unit_rows import check_unit_rows
from facequarry.trainer.network.embed import embed

_RECENT_BYTES = 1 << 20  # of the trainer's events: over a thousand steps

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedPart:
    """Whom a refresh embeds."""

    rotation: Rotation | None = None
    """None: all."""
    probe_faces: int = 0
    """Faces embedded beforehand."""
    forecast: Forecast | None = None
    """None before there are rates."""


@dataclass(frozen=True, slots=True)
class _Gallery:
    """The faces that may be embedded."""

    face_indices: Ints
    """(N,) ascending."""
    identities: Ints
    """(N,) of each face."""
    known: Ints
    """(P,) the identities, ascending."""
    faces: Ints
    """(P,) how many each has."""

    @classmethod
    def of(cls, store: FaceStore, split: Split) -> _Gallery:
        face_indices = split.faces(store, "train")
        identities = store.identity_index[face_indices].astype(np.int64)
        return cls(face_indices, identities, *np.unique(identities, return_counts=True))

    @property
    def total(self) -> int:
        return self.face_indices.size


class Chooser:
    """Chooses for one refresh; made when it begins, asked once, and told when it has ended.

    Args:
        run: the run directory.
        plan: of its refreshes.
        budget: the plan's.
    """

    def __init__(self, run: RunDir, plan: RefreshPlan, budget: Budget) -> None:
        self._run = run
        self._plan = plan
        self._budget = budget
        self._trainer = EventTail(run.events, "trainer", last_bytes=_RECENT_BYTES)
        self._rates = rates_of(self._trainer.new(), read_events(run.events, "miner"))

    def choose(self, number: int, store: FaceStore, model: nn.Module, *, step: int) -> EmbeddedPart:
        """Return whom generation `number` embeds.

        Args:
            number: the generation's.
            store: the faces to mine.
            model: the backbone with the weights that are to be mined.
            step: of their checkpoint.

        Raises:
            CannotEmbed: the weights give no embeddings.
        """
        gallery = _Gallery.of(store, self._plan.split)
        anchors, num_probed = self._plan.resolved(gallery.identities).anchors, 0
        most = self._most(gallery, anchors)
        if most >= gallery.total:
            return EmbeddedPart(forecast=self._forecast(anchors, gallery.total))
        rotation = last_rotation(self._run)
        if rotation is None or not rotation.left.size:
            count = faces_to_probe(gallery.known.size, most)
            sample = probe_faces(gallery.face_indices, gallery.identities, count)
            num_probed = sample.size
            most = self._most(gallery, anchors, num_probed)
            if num_probed:
                order = self._order_alike(gallery, sample, most, store, model, step)
            else:
                random = np.random.default_rng([self._plan.seed, number])
                order = random.permutation(gallery.known.size)
            rotation = Rotation.starting(gallery.known[order])
        rotation = rotation.over(gallery.known)
        place = np.searchsorted(gallery.known, rotation.left)
        part = next_part(
            gallery.faces[place],
            rows_of(self._plan.config, gallery.faces[place]),
            most=most,
            least_rows=self._budget.least_rows,
        )
        num_faces = int(gallery.faces[place[:part]].sum())
        return EmbeddedPart(
            rotation=rotation.taken(part, number),
            probe_faces=num_probed,
            forecast=self._forecast(anchors, num_faces, num_probed),
        )

    def outcome(self, choice: EmbeddedPart) -> dict[str, object]:
        """Return what was planned and what came of it, as fields of the event that ends it."""
        steps = sum(event["event"] == "step" for event in self._trainer.new())
        fields: dict[str, object] = {
            "budget_steps": self._budget.steps,
            "refresh_steps": steps,
            "within_budget": steps <= self._budget.steps,
            "probe_faces": choice.probe_faces,
            "identities_left": 0 if choice.rotation is None else int(choice.rotation.left.size),
        }
        if choice.forecast is not None:
            fields["forecast_s"] = choice.forecast.forecast_s
            fields["forecast_steps"] = choice.forecast.forecast_steps
        return fields

    def _order_alike(
        self,
        gallery: _Gallery,
        sample: Ints,
        most: int,
        store: FaceStore,
        model: nn.Module,
        step: int,
    ) -> Ints:
        """Return (P,) positions in `gallery.known`, by how these weights see the sample."""
        device = resolve_device(self._plan.config.device)
        embeddings = embed(model.to(device), store, sample, device=device)
        check_unit_rows(step, sample, embeddings)
        whose = gallery.identities[np.searchsorted(gallery.face_indices, sample)]
        points = centres(embeddings, whose, gallery.known)
        return order_by_similarity(points, gallery.faces, math.ceil(gallery.total / max(1, most)))

    def _most(self, gallery: _Gallery, anchors: int | None, num_probed: int = 0) -> int:
        if self._rates is None:
            first = self._budget.first_faces
            return gallery.total if first is None else min(first, gallery.total)
        return most_faces(
            self._rates,
            self._budget,
            wanted_anchors=anchors,
            total=gallery.total,
            probe_faces=num_probed,
        )

    def _forecast(self, anchors: int | None, faces: int, num_probed: int = 0) -> Forecast | None:
        if self._rates is None:
            return None
        found = forecast(
            self._rates,
            self._budget,
            faces=faces,
            anchors=min(faces, anchors or faces),
            probe_faces=num_probed,
        )
        if found.forecast_s > self._budget.seconds(self._rates):
            logger.warning(
                "a refresh of %d faces, the fewest that are worth it, should take %.0f steps, and "
                "refresh.budget = steps allows %.0f; raise trainer.checkpoint_every",
                faces,
                found.forecast_steps,
                self._budget.share * self._budget.steps,
            )
        return found


def last_rotation(run: RunDir) -> Rotation | None:
    """Return the cycle that the newest generation is part of; None where a new one begins.

    It begins anew too where the generation is damaged: then nothing says who had a turn.
    """
    for number in reversed(run.generation_numbers()):
        folder = run.generation(number)
        try:
            manifest: Mapping[str, Any] = read_generation_manifest(folder)
            return read_rotation(folder, manifest)
        except NotFound:
            continue  # deleted meanwhile
        except BadInput as error:
            logger.warning("identities are taken in turn from the start again: %s", error)
            return None
    return None
