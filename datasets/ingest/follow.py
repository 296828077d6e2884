"""Photos that keep coming: look again and again, and take what stood still.

with Ingest(source, out, config) as work:
    for report in follow(work, FollowConfig(settle_s=10)):
        print(report.snapshot, report.faces)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from facequarry.datasets.config import FollowConfig
from facequarry.datasets.ingest.ingest import Ingest, IngestReport, NoFaces, OnProgress
from facequarry.datasets.ingest.known import Watched

logger = logging.getLogger(__name__)


class Settling:
    """Says which photos kept their size and time since they were first seen so.

    Args:
        settle_s: for how long, seconds.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._seen: pa.Table | None = None
        self._last = 0.0

    def look(self, photos: pa.Table, now: float) -> Watched:
        """Return which photos of a listing stand still, and which of them for the first time.

        Args:
            photos: a listing table.
            now: seconds since any moment; it never goes back.
        """
        since = np.full(photos.num_rows, now)
        if self._seen is not None and photos.num_rows:
            before = pc.index_in(photos["source"], value_set=self._seen["source"].combine_chunks())
            old = self._seen.take(before.combine_chunks())
            is_same = np.ones(photos.num_rows, bool)
            for name in ("size_bytes", "modified_ns"):
                is_same &= pc.equal(photos[name], old[name]).fill_null(False).to_numpy()
            since[is_same] = old["since"].to_numpy()[is_same]
        seen = photos.select(["source", "size_bytes", "modified_ns"])
        self._seen = seen.append_column("since", pa.array(since))
        settled = now - since >= self._settle_s
        fresh = settled & (self._last - since < self._settle_s)
        self._last = now
        return Watched(settled=settled, fresh=fresh)


def follow(
    work: Ingest,
    config: FollowConfig,
    on_progress: OnProgress | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Generator[IngestReport]:
    """Yield a report for every snapshot that new photos made; it ends only by an exception.

    Args:
        work: an ingest of a folder, entered.
        config: when a photo is taken, and how often to look.
        on_progress: called at the start and after every shard of a round.
        clock: seconds since any moment.
        sleep: waits for that many seconds.

    Raises:
        RuntimeError, TimedOut, OSError: as `ingest` says.
    """
    settling = Settling(config.settle_s)
    faceless = None
    with work.actors():
        while True:
            listing = work.look(more_to_come=True)
            news = work.find_news(listing, settling.look(listing.photos, clock()))
            if news.photos.num_rows and news.photos != faceless:
                try:
                    yield work.take(listing, news, on_progress)
                except NoFaces as error:
                    # Their shards are finished: they are published with the first face.
                    faceless = news.photos
                    logger.warning("%s; waiting for more photos", error)
            sleep(config.every_s)
