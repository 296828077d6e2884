"""Find and kill the processes of the Ray that a test started, and no others."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_LOOK_S = 0.02
_SCAN_S = 0.2  # a look at every process of the machine is not cheap


def descendants(root: int) -> list[int]:
    """Return the pids of all processes below `root`, as /proc has them now."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            # The command's name is in brackets and may hold anything.
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(after_name[1])
    found, fresh = [], {root}
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh}
        found += sorted(fresh)
    return found


def ray_actors(name: str, *, below: int) -> list[int]:
    """Return the pids of Ray actors whose title holds `name`, such as MinerActor."""
    found = []
    for pid in descendants(below):
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            if title.startswith(b"ray::") and name.encode() in title:
                found.append(pid)
    return found


def wait_until(
    holds: Callable[[], object], what: str, *, timeout_s: float = 300.0, every_s: float = _LOOK_S
) -> None:
    """Wait for a condition on disk; fail with what was waited for."""
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s:.0f} s"
        pause.wait(every_s)


@contextlib.contextmanager
def actor_killed_when(
    holds: Callable[[], object], name: str, *, then: Callable[[], object] = lambda: None
) -> Iterator[list[int]]:
    """Kill -9 one Ray actor of a name that starts in the block, once `holds` does.

    Yields a list that the killed pid is put into. `then` is called when it was killed.
    """
    of_before = set(ray_actors(name, below=os.getpid()))  # those of the last run, still dying
    found: list[int] = []
    killed: list[int] = []

    def find() -> bool:
        found[:] = [pid for pid in ray_actors(name, below=os.getpid()) if pid not in of_before]
        return bool(found)

    def kill() -> None:
        # Looked for early: from the moment on every millisecond counts.
        wait_until(find, f"an actor {name}", every_s=_SCAN_S)
        wait_until(holds, f"the moment to kill {name}")
        os.kill(found[0], signal.SIGKILL)
        killed.append(found[0])
        then()

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        yield killed
        killing.result()
