"""One writer at a time: a lock that names its holder and frees itself when the holder dies.

with WriterLock(root / ".writer.lock"):
    ...
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from facequarry.datasets.disk.errors import Failure

_POLL_S = 0.05
_COMMAND_CHARS = 100  # a worker of Ray has a thousand characters of flags


class LockHeld(Failure):
    """Another process holds the lock; the sentence names it."""


class WriterLock:
    """An exclusive `flock` on a file that says who holds it; a context manager.

    The kernel frees the lock when its process ends, however it ends; the file stays. Threads of
    one process exclude each other too.

    Args:
        path: the lock's file; its folder is made if absent.
        timeout_s: how long to wait for another holder before giving up.
        clock: seconds since any moment, for the timeout.
        sleep: waits for that many seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        timeout_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep
        self._descriptor: int | None = None

    def __enter__(self) -> WriterLock:
        """Take the lock.

        Raises:
            LockHeld: another holder kept it for `timeout_s`.
            OSError: the file cannot be made or locked.
        """
        if self._descriptor is not None:
            raise LockHeld(f"{self._path} is held by this very object")
        while self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                self._wait(descriptor)
                # A holder may have removed the file: then others lock a new one of that name.
                if _is_at(descriptor, self._path):
                    _write(descriptor, json.dumps(_holder()).encode())
                    self._descriptor = descriptor
            finally:
                if self._descriptor is None:
                    os.close(descriptor)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the lock."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                _write(descriptor, b"")
            finally:
                os.close(descriptor)

    def is_in_place(self) -> bool:
        """Say whether this object holds the lock, and its file is still the one of that name."""
        return self._descriptor is not None and _is_at(self._descriptor, self._path)

    def touch(self, time_s: float) -> None:
        """Date the file that is held, wherever it lies by now: what a heartbeat does.

        Raises:
            OSError: the file cannot be dated, or the lock is not held.
        """
        descriptor = self._descriptor  # once: another thread may be freeing the lock
        if descriptor is None:
            raise OSError(f"{self._path} is not held")
        os.utime(descriptor, (time_s, time_s))

    def _wait(self, descriptor: int) -> None:
        deadline = self._clock() + self._timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if self._clock() >= deadline:
                    raise LockHeld(_refusal(self._path, self._timeout_s)) from None
                self._sleep(_POLL_S)


def is_held(path: Path) -> bool:
    """Say whether a live process holds the lock; writes nothing and waits for nothing.

    Raises:
        OSError: the file cannot be read or locked.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two that look at once do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_holder(path: Path) -> dict[str, object] | None:
    """Return host, pid, command and since of the holder that a lock's file names.

    A holder that was killed stays named until the next one: only taking the lock tells.
    """
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        holder = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(holder, dict):
            return holder
    return None


def _holder() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": " ".join(sys.argv),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _refusal(path: Path, timeout_s: float) -> str:
    holder = read_holder(path)
    by = "another process"
    if holder is not None:
        pid, host, command, since = (
            str(holder.get(name, "?")) for name in ("pid", "host", "command", "since")
        )
        if len(command) > _COMMAND_CHARS:
            command = f"{command[:_COMMAND_CHARS]}…"
        by = f"process {pid} on {host} ({command}) since {since}"
    waited = f" and was not freed in {timeout_s:.0f} s" if timeout_s else ""
    return f"{path} is held by {by}{waited}; wait for it to end, or end it"


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write(descriptor: int, raw: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, raw, 0)
