"""How far an ingest is and what came of it, for the event log and for whoever watches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from facequarry.datasets.faces.shards import ShardSummary
from facequarry.datasets.faces.snapshots import count_rejects
from facequarry.datasets.ingest.plan import IngestPlan
from facequarry.datasets.runs.events import EventLog

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far an ingest is; reused shards count as done from the start."""

    photos: int
    total_photos: int
    faces: int
    rejects: dict[str, int]
    shards: int
    total_shards: int
    photos_per_s: float
    """Since the start, reused shards left out."""
    eta_s: float | None
    """Seconds left at this rate; None before there is one."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did. Counts of photos, faces and rejects speak of the whole snapshot."""

    snapshot: int
    is_published: bool
    """False where there was nothing new, and the snapshot is the one of before."""
    photos: int
    faces: int
    identities: int
    rejects: dict[str, int]
    """Rejected photos by reason."""
    left_out: dict[str, int]
    """Photos of the source that were not looked at, by reason."""
    notes: dict[str, int]
    """What else a person should know about the source, counted."""
    new_photos: int
    """Photos that no snapshot had looked at before, or not as they are now."""
    made_photos: int
    """Photos that this ingest looked at itself: the new ones, less those in reused shards."""
    shards_made: int
    shards_reused: int
    """Finished shards of an ingest that was interrupted."""
    shards: int
    """Shards of the snapshot."""
    seconds: float
    pictures: tuple[Path, ...]
    """Contact sheets of faces and of rejects."""


class Tally:
    """Counts finished shards, for the event log and for whoever watches."""

    def __init__(
        self,
        plan: IngestPlan,
        events: EventLog,
        on_progress: Callable[[IngestProgress], None] | None,
    ) -> None:
        self._events = events
        self._on_progress = on_progress
        self._total_photos = sum(task.num_photos for task in plan.tasks)
        self._total_shards = len(plan.tasks)
        self._summaries = list(plan.finished.values())
        self._reused = sum(summary.num_photos for summary in self._summaries)
        self._started = time.monotonic()
        self._tell("started")

    def add(self, summary: ShardSummary) -> None:
        """Count one shard."""
        self._summaries.append(summary)
        self._tell("shard")

    def ended(self, report: IngestReport) -> None:
        """Log the end."""
        self._events.write(
            "published" if report.is_published else "unchanged",
            snapshot=report.snapshot,
            photos=report.photos,
            faces=report.faces,
            rejects=report.rejects,
            shards=report.shards,
            left_out=report.left_out,
            notes=report.notes,
        )

    def stopped(self, error: BaseException) -> None:
        """Log why nothing was published."""
        try:
            self._events.write("stopped", reason=f"{type(error).__name__}: {error}")
        except OSError:  # the disk may be what the error is about
            logger.warning("the event log cannot be written", exc_info=True)

    def _tell(self, event: str) -> None:
        photos = sum(summary.num_photos for summary in self._summaries)
        seconds = time.monotonic() - self._started
        rate = (photos - self._reused) / seconds if seconds else 0.0
        progress = IngestProgress(
            photos=photos,
            total_photos=self._total_photos,
            faces=sum(summary.rows for summary in self._summaries),
            rejects=count_rejects(self._summaries),
            shards=len(self._summaries),
            total_shards=self._total_shards,
            photos_per_s=rate,
            eta_s=(self._total_photos - photos) / rate if rate else None,
        )
        self._events.write(
            event,
            photos=progress.photos,
            faces=progress.faces,
            rejects=progress.rejects,
            shards=progress.shards,
            photos_per_s=progress.photos_per_s,
        )
        if self._on_progress is not None:
            self._on_progress(progress)
