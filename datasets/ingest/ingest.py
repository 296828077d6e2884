"""Photos to a published snapshot of faces: what is listed, what is new, who looks, what is kept.

    facequarry ingest --source photos --out faces

Each task is a list of photos that becomes one shard, durable by itself. An ingest that was killed
goes on from its finished shards and publishes the bytes that an undisturbed one would have.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.faces.schema import Rejected
from facequarry.datasets.faces.shards import ShardSummary
from facequarry.datasets.faces.snapshots import (
    Snapshot,
    count_rejects,
    publish_snapshot,
    read_snapshot,
    snapshot_numbers,
)
from facequarry.datasets.ingest.contact_sheets import write_faces_page, write_rejects_page
from facequarry.datasets.ingest.faces_root import (
    ARCHIVES,
    EVENTS,
    PICTURES,
    NoFaces,
    saying_where,
    writing_into,
)
from facequarry.datasets.ingest.known import Known, News, Watched, find_news
from facequarry.datasets.ingest.plan import (
    IngestPlan,
    check_options,
    plan_ingest,
    sweep_unnamed_shards,
)
from facequarry.datasets.ingest.shard_maker import ShardMaker
from facequarry.datasets.ingest.shard_pool import ShardPool
from facequarry.datasets.ingest.shard_tasks import face_options
from facequarry.datasets.ingest.tally import IngestProgress, IngestReport, Tally
from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.datasets.sources.listing import Wanted, check_photos, open_source
from facequarry.datasets.sources.photos import Listing, OnListing, Photo

__all__ = ["Ingest", "IngestProgress", "IngestReport", "NoFaces", "ingest"]

logger = logging.getLogger(__name__)

OnProgress = Callable[[IngestProgress], None]


def ingest(
    source: Path,
    out: Path,
    config: IngestConfig,
    on_progress: OnProgress | None = None,
    *,
    maker: type[ShardMaker] = ShardMaker,
) -> IngestReport:
    """Make faces of a source's new photos and publish them as the next snapshot.

    Ray must be started. Interrupted, it leaves its finished shards for the next ingest.

    Args:
        source: folder of identity folders, or a tar or tar.gz of them.
        out: the faces root, made if absent.
        config: how photos become faces.
        on_progress: called at the start and after every shard.
        maker: the class that the actors are made of.

    Raises:
        NoFaces: no photo gave a face; nothing is published.
        RuntimeError: Ray is not started, or a shard's actors died again and again.
        TimedOut: no actor started, or no shard was finished, in time.
        NotFound, BadInput, LockHeld, OSError: as `Ingest` says.
    """
    with Ingest(source, out, config, maker=maker) as work:
        listing = work.look()
        return work.take(listing, work.find_news(listing), on_progress)


class Ingest:
    """One source into one faces root, round after round; a context manager.

    Entering takes the root's writer lock and checks all that can be checked before work begins;
    Ray is needed only where there are photos to look at.

    Args:
        source: folder of identity folders, or a tar or tar.gz of them. Source and root must be
            reachable under the same paths on every node that runs actors.
        out: the faces root, made if absent.
        config: how photos become faces.
        maker: the class that the actors are made of.

    Raises:
        NotFound: there is no such source.
        BadInput: the source is no archive, or the detector cannot be made.
    """

    def __init__(
        self,
        source: Path,
        out: Path,
        config: IngestConfig,
        *,
        maker: type[ShardMaker] = ShardMaker,
    ) -> None:
        self._root = out.absolute()
        self._config = config.absolute()
        self._maker = maker
        self._source = open_source(source.absolute(), self._root / ARCHIVES)
        self._wanted = Wanted.read(self._config)
        self._options = face_options(self._config, make_detector(self._config))
        self._pool: ShardPool | None = None
        self._events: EventLog | None = None
        self._current: Snapshot | None = None
        self._known = Known.nothing()
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Ingest:
        """Take the root.

        Raises:
            LockHeld: another process writes to this root.
            BadInput: it holds other things, or faces that were made with other options.
            CorruptShard: one of its shards cannot be read.
            OSError: it cannot be written.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(writing_into(self._root, self._source.path))
            if snapshot_numbers(self._root):
                self._current = read_snapshot(self._root)
                check_options(self._current, self._options)
                added = [shard.summary for shard in self._current.shards]
                self._known = Known.nothing().plus(self._root, added)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the root."""
        self._exit.__exit__(kind, error, trace)

    @property
    def root(self) -> Path:
        """The faces root, absolute."""
        return self._root

    @contextlib.contextmanager
    def actors(self) -> Iterator[None]:
        """Keep the same actors for every `take` of the block; else each one starts its own."""
        with contextlib.closing(self._new_pool()) as self._pool:
            try:
                yield
            finally:
                self._pool = None

    def look(self, on_listing: OnListing | None = None, *, more_to_come: bool = False) -> Listing:
        """List the wanted photos of the source.

        Args:
            on_listing: told how far it is.
            more_to_come: there may be none yet.

        Raises:
            BadInput: there are none, or the source is damaged.
        """
        listing = self._source.scan(on_listing)
        wanted = self._wanted.of(listing, more_to_come=more_to_come)
        if not more_to_come:
            check_photos(self._source, listing, wanted)
        return wanted

    def find_news(self, listing: Listing, watched: Watched | None = None) -> News:
        """Return what is new in a listing, as `datasets.known.find_news` does."""

        def digest(photo: Photo) -> str | None:
            try:
                raw = self._source.read(photo, max_bytes=self._options.max_file_mib << 20)
            except Rejected:
                return None
            return hashlib.sha256(raw).hexdigest()

        return find_news(
            listing.photos,
            self._known,
            self._current.number if self._current else 0,
            digest,
            everything=listing.everything,
            watched=watched,
        )

    def take(
        self, listing: Listing, news: News, on_progress: OnProgress | None = None
    ) -> IngestReport:
        """Make faces of what is new in a listing and publish the next snapshot.

        Raises:
            NoFaces, RuntimeError, TimedOut, OSError: as `ingest` says.
        """
        clock = time.monotonic()
        root, before = self._root, self._current
        with saying_where(root):
            per_shard = self._config.photos_per_shard
            plan = plan_ingest(root, news.photos, before, self._options, per_shard)
            tally = Tally(plan, self._log(), on_progress)
            try:
                made = self._make(plan, tally)
                snapshot = self._current = self._publish(plan, made, news)
            except BaseException as error:
                tally.stopped(error)
                raise
            report = IngestReport(
                snapshot=snapshot.number,
                is_published=snapshot is not before,
                photos=snapshot.num_photos,
                faces=snapshot.num_faces,
                identities=snapshot.num_identities,
                rejects=snapshot.rejects,
                left_out=listing.left_out,
                notes=listing.notes | _notes(news),
                new_photos=sum(task.num_photos for task in plan.tasks),
                made_photos=sum(task.num_photos for task in plan.open_tasks),
                shards_made=len(made),
                shards_reused=len(plan.finished),
                shards=len(snapshot.shards),
                seconds=time.monotonic() - clock,
                pictures=(),
            )
            tally.ended(report)
        return replace(report, pictures=self._draw(snapshot, listing, is_new=report.is_published))

    def _log(self) -> EventLog:
        if self._events is None:
            events = read_events(self._root / EVENTS, "ingest")
            attempt = 1 + max((event.get("attempt", 0) for event in events), default=0)
            self._events = EventLog(self._root / EVENTS, "ingest", attempt=attempt)
        return self._events

    def _make(self, plan: IngestPlan, tally: Tally) -> dict[int, ShardSummary]:
        """Make the open tasks' shards; return their summaries by task index."""
        made: dict[int, ShardSummary] = {}
        if not plan.open_tasks:
            return made
        with contextlib.ExitStack() as stack:
            pool = self._pool or stack.enter_context(contextlib.closing(self._new_pool()))
            for task, summary in pool.make(plan.open_tasks):
                made[task.index] = summary
                tally.add(summary)
        return made

    def _new_pool(self) -> ShardPool:
        return ShardPool(self._source, self._root, self._config, self._maker)

    def _publish(self, plan: IngestPlan, made: dict[int, ShardSummary], news: News) -> Snapshot:
        """Publish the next snapshot; return the current one where there is nothing new."""
        if self._current is not None and not plan.tasks:
            return self._current
        by_index = plan.finished | made
        added = [by_index[task.index] for task in plan.tasks]
        if self._current is None and not any(summary.rows for summary in added):
            counts = ", ".join(f"{reason} {n}" for reason, n in count_rejects(added).items())
            raise NoFaces(
                f"none of {sum(summary.num_photos for summary in added)} photos gave a face "
                f"({counts}); nothing was published; try another detector"
            )
        snapshot = publish_snapshot(self._root, self._options.to_json(), added, news.retried)
        self._known = self._known.plus(self._root, added)
        sweep_unnamed_shards(self._root, snapshot)
        return snapshot

    def _draw(self, snapshot: Snapshot, listing: Listing, *, is_new: bool) -> tuple[Path, ...]:
        """Draw the contact sheets that are due; what was published does not depend on them."""
        folder = self._root / PICTURES
        faces, rejects = folder / "faces.png", folder / "rejects.png"
        try:
            if is_new or not faces.is_file():
                write_faces_page(self._root, snapshot, faces)
            if not snapshot.rejects:
                rejects.unlink(missing_ok=True)
            elif is_new or not rejects.is_file():
                write_rejects_page(self._source, listing.photos, self._known.rejects, rejects)
        except (OSError, ValueError):
            logger.warning("a contact sheet could not be drawn", exc_info=True)
        return tuple(path for path in (faces, rejects) if path.is_file())


def _notes(news: News) -> dict[str, int]:
    notes = {
        "rejected photos whose file changed, tried again": sum(news.retried.values()),
        "photos whose file changed since, their faces stay": news.changed,
        "photos with a face that this source lacks, their faces stay": news.gone,
        "published faces of photos that are not wanted now, they stay": news.unwanted,
    }
    return {note: count for note, count in notes.items() if count}
