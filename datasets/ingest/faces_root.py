"""The faces root as a place to write into: one writer, nothing left of what came to nothing."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from facequarry.datasets.disk.errors import BadInput, Failure
from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.disk.publish import sweep_staging
from facequarry.datasets.faces.shards import REJECTS, SHARDS
from facequarry.datasets.faces.snapshots import SNAPSHOTS

WRITER_LOCK = ".writer.lock"
ARCHIVES = "archives"
EVENTS = "events"
PICTURES = "pictures"


class NoFaces(BadInput):
    """No photo gave a face; the sentence counts the reasons."""


class CannotWrite(OSError):
    """The root cannot be written; the sentence names it and says why."""


@contextlib.contextmanager
def writing_into(root: Path, source: Path) -> Iterator[None]:
    """Be the one writer of a faces root for the block, and sweep what a killed one left.

    A root that came into being here, and got no snapshot for want of a face or of photos, is
    emptied again.

    Args:
        root: absolute; made if absent.
        source: where the photos are, absolute.

    Raises:
        LockHeld: another process writes to this root.
        BadInput: it holds something else, lies in the source, or it or a folder above it is a file.
        CannotWrite: it cannot be made or written.
    """
    _check(root, source)
    was_there = root.exists()
    was_empty = not was_there or not any(root.iterdir())
    with contextlib.ExitStack() as stack:
        with saying_where(root):
            stack.enter_context(WriterLock(root / WRITER_LOCK))
            _sweep(root)
        try:
            yield
        except NoFaces:
            if was_empty:
                _empty(root, keep_folder=was_there)
            raise
        finally:
            _sweep(root)
            if was_empty and _holds_nothing_made(root):
                _empty(root, keep_folder=was_there)


@contextlib.contextmanager
def saying_where(root: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a sentence that names the root.

    Raises:
        CannotWrite: in place of what the operating system raised; our own errors stay.
    """
    try:
        yield
    except (CannotWrite, BadInput, Failure):
        raise
    except OSError as error:
        raise CannotWrite(
            error.errno,
            f"{error.strerror or error}: cannot write into {root}; make room, lend the rights "
            "there or name another folder, and run it again: finished shards are kept",
        ) from error


def _check(root: Path, source: Path) -> None:
    nearest = next(path for path in (root, *root.parents) if path.exists())
    if not nearest.is_dir():
        raise BadInput(f"{nearest} is a file; name a folder to put the faces into")
    if root == source or source in root.parents:
        raise BadInput(f"{root} lies in the source {source}; name a folder outside of it")
    names = {path.name for path in root.iterdir()} if root.exists() else set()
    if names and not names & {WRITER_LOCK, SHARDS, SNAPSHOTS}:
        raise BadInput(
            f"{root} holds other things than faces, such as {min(names)}; name a new folder"
        )


def _sweep(root: Path) -> None:
    for folder in ("", ARCHIVES, SHARDS, REJECTS, SNAPSHOTS, PICTURES):
        sweep_staging(root / folder)


def _holds_nothing_made(root: Path) -> bool:
    if not root.exists() or any((root / ARCHIVES).glob("*")):
        return False
    return {path.name for path in root.iterdir()} <= {WRITER_LOCK, EVENTS, ARCHIVES}


def _empty(root: Path, *, keep_folder: bool) -> None:
    # The lock is still held; whoever waits for it finds its file gone and takes a new one.
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not keep_folder:
        root.rmdir()
