"""A lock that a holder can lose: heartbeats, takeover from a silent holder, a fencing token.

    with FencedLock(run.miner_lock) as lock:
        with staged_folder(final, before_rename=lock.check) as staging:
            ...        # long work; `check` raises LockLost where another one took over meanwhile

The kernel frees a `flock` when its process ends, but not when it hangs or is stopped, nor on a file
system that loses track of its clients. Whoever finds the heartbeat older than `stale_after_s`
unlinks the lock's file and locks a new one. Clocks decide when that happens and never whether it is
safe: a holder that was taken for dead by mistake finds that out at `check`, and publishes nothing.

The token counts acquisitions. A holder writes it into what it publishes, and whoever publishes next
can tell from there that a later holder was at work before (`refresh.one_miner`).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from facequarry.datasets.disk.errors import Failure
from facequarry.datasets.disk.lock import LockHeld, WriterLock

STALE_AFTER_S = 60.0
BEAT_EVERY_S = 10.0
_POLL_S = 0.1
_GATE_TIMEOUT_S = 10.0  # it is held for microseconds
_BEAT_TIMEOUT_S = 10.0  # so is a heartbeat, where the file system answers
_TOKEN_BYTES = 21  # twenty digits and a newline

logger = logging.getLogger(__name__)


class LockLost(Failure):
    """Another holder took over while this one was silent."""


class FencedLock:
    """A `WriterLock` with a heartbeat and a token that grows at every acquisition.

    Args:
        path: the lock's file; `<path>.token` beside it holds the last token and is never removed.
        timeout_s: how long to wait for a holder that is alive.
        stale_after_s: age of a holder's heartbeat from which it is taken for dead.
        beat_every_s: seconds between heartbeats, well below `stale_after_s`; None starts no thread
            and leaves them to `beat`.
        beyond: a token that is known to have been given, which a lost or damaged file of tokens
            does not undo; asked at each acquisition.
        clock: seconds since the epoch, for heartbeats and the timeout.
        sleep: waits for that many seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        timeout_s: float = 0.0,
        stale_after_s: float = STALE_AFTER_S,
        beat_every_s: float | None = BEAT_EVERY_S,
        beyond: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._stale_after_s = stale_after_s
        self._beat_every_s = beat_every_s
        self._beyond = beyond
        self._clock = clock
        self._sleep = sleep
        self._lock = WriterLock(path)
        self._token = 0
        self._left = threading.Event()
        self._beats: threading.Thread | None = None

    @property
    def token(self) -> int:
        """Number of this acquisition; later ones have higher numbers. 0 before the first."""
        return self._token

    def __enter__(self) -> FencedLock:
        """Take the lock, from a silent holder too.

        Raises:
            LockHeld: a holder that is alive kept it for `timeout_s`.
            OSError: the files beside it cannot be made or locked.
        """
        deadline = self._clock() + self._timeout_s
        while True:
            try:
                self._take()
                break
            except LockHeld:
                if self._clock() >= deadline:
                    raise
            self._sleep(_POLL_S)
        if self._beat_every_s is not None:
            self._left = threading.Event()
            beats = threading.Thread(
                target=self._beat_until, args=(self._left, self._beat_every_s), daemon=True
            )
            try:
                beats.start()
            except BaseException:
                self._lock.__exit__(None, None, None)
                raise
            self._beats = beats
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the lock; one that was lost is left to its new holder."""
        self._left.set()
        if self._beats is not None:
            # A heartbeat of a file that is closed by then would date whatever is opened next.
            self._beats.join(_BEAT_TIMEOUT_S)
        self._lock.__exit__(kind, error, trace)

    def check(self) -> None:
        """Make sure that the lock is still held; call it right before what must happen once.

        Raises:
            LockLost: it is not.
        """
        if not self._lock.is_in_place():
            raise LockLost(
                f"{self._path} was taken over from this process after "
                f"{self._stale_after_s:.0f} s without a heartbeat; nothing was published"
            )

    def beat(self) -> None:
        """Say that the holder is alive.

        Raises:
            OSError: the lock's file cannot be dated.
        """
        self._lock.touch(self._clock())

    def _beat_until(self, left: threading.Event, every_s: float) -> None:
        while not left.wait(every_s):
            try:
                self.beat()
            except OSError as error:  # the holder finds out at `check` what came of it
                if not left.is_set():
                    logger.warning("no heartbeat for %s: %s", self._path, error)

    def _take(self) -> None:
        """Take the lock if it is free or its holder is silent.

        Raises:
            LockHeld: it is neither.
            OSError: the files cannot be made, locked or dated; the lock is not held then.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # One at a time: between two that both found a holder silent, the second would remove the
        # file that the first has just locked.
        with _gate(self._path.with_name(f"{self._path.name}.token"), self._sleep) as token_file:
            try:
                self._lock.__enter__()
            except LockHeld as held:
                if self._clock() - self._path.stat().st_mtime < self._stale_after_s:
                    raise
                logger.warning("taking over a lock without a heartbeat: %s", held)
                self._path.unlink()
                self._lock.__enter__()
            try:
                self.beat()
                self._token = _next_token(token_file, beyond=self._beyond())
            except BaseException:
                self._lock.__exit__(None, None, None)
                raise


@contextlib.contextmanager
def _gate(path: Path, sleep: Callable[[float], None]) -> Iterator[int]:
    """Hold the file of tokens for the block; yield its descriptor.

    Raises:
        LockHeld: another process was stopped in just this moment and did not come back.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        for _ in range(round(_GATE_TIMEOUT_S / _POLL_S)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                sleep(_POLL_S)
        else:
            raise LockHeld(f"{path} was not freed in {_GATE_TIMEOUT_S:.0f} s; end who holds it")
        yield descriptor
    finally:
        os.close(descriptor)


def _next_token(descriptor: int, *, beyond: int) -> int:
    """Return the number after the file's and `beyond`, and write it there durably."""
    raw = os.pread(descriptor, 2 * _TOKEN_BYTES, 0)
    try:
        last = int(raw or b"0")
    except ValueError:
        logger.warning("the file of tokens holds %r; counting on from %d", raw, beyond)
        last = 0
    token = max(last, beyond, 0) + 1
    os.pwrite(descriptor, b"%020d\n" % token, 0)  # of one width: one write, never torn
    os.ftruncate(descriptor, _TOKEN_BYTES)
    os.fsync(descriptor)
    return token
