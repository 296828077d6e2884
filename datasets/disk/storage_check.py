"""Whether a folder does what runs need of it: locks that exclude, and names that are taken once.

Driver, queue and rank 0 rest on `flock`; a shared folder whose client keeps locks to itself, or
refuses them, would let two of them work at a time. What one machine can find out is found out here,
with a second process; whether machines exclude each other only a second one can tell, by running
the same check while the first holds the lock (`hold_s`).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.disk.lock import LockHeld, WriterLock

CHECK_LOCK = ".facequarry-check.lock"
_MOUNTS = Path("/proc/self/mounts")
_OTHER_TIMEOUT_S = 60.0
# Takes the lock in a process of its own; exit code 3 where another one has it.
_OTHER = """
import fcntl, sys
try:
    fcntl.flock(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(3)
"""
_FREE, _HELD = 0, 3
_ADVICE = "two drivers could work on one run: mount it with locks (NFS 4, no local_lock or nolock)"


@dataclass(frozen=True, slots=True)
class StorageFinding:
    """One thing that was tried: what, whether it held, and what follows."""

    what: str
    is_well: bool
    text: str


def check_storage(
    folder: Path, *, hold_s: float = 0.0, sleep: Callable[[float], None] = time.sleep
) -> list[StorageFinding]:
    """Try what runs need of a folder; what is written for it is removed again.

    Args:
        folder: where runs lie, or will lie.
        hold_s: keep the lock for that long, s, so that the check can be run on another machine.
        sleep: waits for that many seconds.

    Raises:
        NotFound: there is no such folder.
        BadInput: it cannot be written to, or another machine holds the check's lock right now,
            which is what should be found there.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder} is no folder; name the one where runs lie, or make it first")
    path = folder / CHECK_LOCK
    findings = [StorageFinding("file system", True, file_system(folder))]
    try:
        with WriterLock(path):
            held = _other(path)
            sleep(hold_s)
        freed = _other(path)
        path.unlink(missing_ok=True)
    except LockHeld as error:
        raise BadInput(f"locks exclude here, as they should: {error}") from error
    except OSError as error:
        findings.append(StorageFinding("flock", False, f"refused: {error}; {_ADVICE}"))
        return findings
    answers: dict[int | str, str] = {_HELD: "a second process is kept out", _FREE: _ADVICE}
    findings.append(StorageFinding("flock", held == _HELD, answers.get(held, str(held))))
    answers = {_FREE: "with its holder", _HELD: f"not freed; {_ADVICE}"}
    findings.append(StorageFinding("flock freed", freed == _FREE, answers.get(freed, str(freed))))
    findings.append(_names_are_taken_once(folder))
    return findings


def file_system(folder: Path) -> str:
    """Return the kind of file system that a folder lies on and where it is mounted."""
    if not _MOUNTS.is_file():
        return "unknown"
    where = folder.resolve()
    mounts = [line.split()[:3] for line in _MOUNTS.read_text(encoding="utf-8").splitlines()]
    found = [
        (len(Path(point).parts), kind, point)
        for _, point, kind in mounts
        if where.is_relative_to(Path(point))
    ]
    _, kind, point = max(found, default=(0, "unknown", "/"))
    return f"{kind} at {point}"


def _other(path: Path) -> int | str:
    """Try the lock in another process; return `_FREE`, `_HELD`, or what went wrong."""
    command = [sys.executable, "-c", _OTHER, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_OTHER_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"a second process did not get an answer in {_OTHER_TIMEOUT_S:.0f} s"
    if done.returncode in (_FREE, _HELD):
        return done.returncode
    return f"a second process cannot try the lock: {done.stderr.strip().rpartition(chr(10))[2]}"


def _names_are_taken_once(folder: Path) -> StorageFinding:
    """Publishing renames onto a name that must not exist: a folder that holds files must refuse."""
    with _folders(folder) as (first, second):
        (first / "file").touch()
        (second / "file").touch()
        try:
            os.rename(first, second)
        except OSError:
            return StorageFinding("rename", True, "a name that is taken stays")
    return StorageFinding("rename", False, "a published name can be taken a second time")


@contextlib.contextmanager
def _folders(folder: Path) -> Iterator[tuple[Path, Path]]:
    pair = tuple(folder / f".facequarry-check-{os.getpid()}-{i}" for i in range(2))
    for path in pair:
        path.mkdir()
    try:
        yield pair[0], pair[1]
    finally:
        for path in pair:
            (path / "file").unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()
