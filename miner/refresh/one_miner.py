"""One miner a run: the lock that a miner holds, and the look at it right before it publishes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from facequarry.datasets.disk.fence import FencedLock, LockLost
from facequarry.datasets.disk.publish import sweep_staging
from facequarry.datasets.generations.generation_files import TIMING
from facequarry.datasets.generations.triplets import read_generation_manifest
from facequarry.datasets.runs.run_dir import RunDir


@contextlib.contextmanager
def mining(run: RunDir, *, timeout_s: float = 0.0) -> Iterator[FencedLock]:
    """Be the one miner of a run for the block, and sweep what a killed one left.

    Raises:
        LockHeld: another miner kept the lock for `timeout_s`.
        OSError: the lock's files cannot be used, or what a killed miner left cannot be removed.
    """
    with FencedLock(run.miner_lock, timeout_s=timeout_s, beyond=lambda: newest_token(run)) as lock:
        sweep_staging(run.generations)
        yield lock


def newest_token(run: RunDir) -> int:
    """Return the token that the newest readable generation was published with; 0 if with none."""
    for number in reversed(run.generation_numbers()):
        # Deleted meanwhile, or damaged.
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            timing = read_generation_manifest(run.generation(number)).get(TIMING, {})
            return int(timing.get("token") or 0)
    return 0


def check_turn(run: RunDir, lock: FencedLock) -> None:
    """Make sure that this is still the miner whose turn it is; call it right before publishing.

    The lock's file tells, where the file system shows all its clients the same one. Where it does
    not, a later miner has published by the time that counts: its token is higher.

    Raises:
        LockLost: another miner took over.
    """
    found = newest_token(run)
    if found > lock.token:
        raise LockLost(
            f"{run.generations} holds a generation of a later miner (token {found}, this one has "
            f"{lock.token}); nothing was published"
        )
    lock.check()  # last: what it sees must still hold at the rename
