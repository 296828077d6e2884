"""Show an ingest and a run while they go on; a run from its event log, as any dashboard does."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from facequarry.datasets.disk.progress import Progress
from facequarry.datasets.ingest.ingest import IngestProgress
from facequarry.datasets.runs.events import EventTail
from facequarry.datasets.runs.run_dir import RunDir

_WORDS = (
    "still semi-hard: share of a step's triplets still in their band; stale steps: how many steps "
    "before its use a triplet was mined"
)
_EVERY_S = 0.5
_LONG_S = 3.0

logger = logging.getLogger(__name__)


class Watch:
    """A thread that turns new events into progress while training blocks the driver.

    Args:
        run: the run directory.
        attempt: events of earlier attempts are not shown.
        steps: the run's last step.
        check: called at each look; used to notice that the miner ended.
    """

    def __init__(self, run: RunDir, *, attempt: int, steps: int, check: Callable[[], None]) -> None:
        self._run, self._attempt, self._steps = run, attempt, steps
        self._check = check
        self._events = EventTail(run.events, "trainer")
        self._miner = EventTail(run.events, "miner")
        self._refreshes = 0
        self._ended = threading.Event()
        self._progress = Progress("train", total=steps, unit="steps")
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._progress.__enter__()
        self.say(_WORDS)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=10)
        self._progress.__exit__(kind, error, trace)

    def say(self, sentence: str) -> None:
        """Show a sentence of its own above the progress."""
        self._progress.say(sentence)

    def _look(self) -> None:
        while not self._ended.wait(_EVERY_S):
            try:
                self._check()
                self._show()
            except Exception:  # a look that failed is no reason to stop looking, or training
                logger.warning("could not look at the run", exc_info=True)
        self._show()

    def _show(self) -> None:
        self._refreshes += sum(event["event"] == "published" for event in self._miner.new())
        steps = [event for event in self._events.new() if event["event"] == "step"]
        if not steps or steps[-1]["attempt"] != self._attempt:
            return
        last = steps[-1]
        refreshes = self._refreshes
        shown: dict[str, Any] = {"loss": last["loss_d2"]}
        shown["still_semi-hard"] = f"{100 * last['in_band_share']:.1f} %"
        if "staleness_steps" in last:
            shown["stale_steps"] = last["staleness_steps"]
        shown |= {"refreshes": refreshes, "faces_per_s": last["faces_per_s"]}
        self._progress.update(last["step"] + 1, **shown)


@contextlib.contextmanager
def listing_progress() -> Iterator[Callable[[float], None]]:
    """Yield a callback that shows how much of a source is listed, where that takes long."""
    began = time.monotonic()
    with Progress("list photos", total=100, unit="%") as progress:

        def show(share: float) -> None:
            if time.monotonic() - began > _LONG_S:
                progress.update(int(100 * share))

        yield show


@contextlib.contextmanager
def ingest_progress() -> Iterator[Callable[[IngestProgress], None]]:
    """Yield a callback that shows an ingest's progress."""
    with Progress("ingest", total=None, unit="photos") as progress:

        def show(now: IngestProgress) -> None:
            if not now.total_photos or not now.shards:
                return
            rejects = sum(now.rejects.values())
            progress.update(now.photos, total=now.total_photos, faces=now.faces, rejects=rejects)

        yield show
