"""Know without looking through folders that they still hold what they held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class FolderWatch:
    """Proof that folders hold what they held when they were last looked through.

    A folder's date moves when a name in it does, but only as often as the file system's clock: a
    date of the last second proves nothing yet.

    Args:
        folders: what is looked through; they need not exist yet.
        clock: seconds since the epoch, as files are dated.
    """

    def __init__(self, folders: tuple[Path, ...], clock: Callable[[], float]) -> None:
        self._folders = folders
        self._clock = clock
        self._dates: tuple[int | None, ...] = ()
        self._is_old = False
        self._proven: tuple[int | None, ...] | None = None

    def is_proven(self) -> bool:
        """Say so; if not, the caller looks through the folders and says `prove`."""
        self._dates = self._read()
        newest = max((date for date in self._dates if date is not None), default=None)
        self._is_old = newest is not None and self._clock() - newest / 1e9 > 1
        return self._is_old and self._dates == self._proven

    def prove(self) -> None:
        """Note that there was nothing to do in the folders as they were at `is_proven`.

        Dates that were too fresh then are no proof later either: the next change may share them.
        """
        self._proven = self._dates if self._is_old else None

    def _read(self) -> tuple[int | None, ...]:
        return tuple(
            folder.stat().st_mtime_ns if folder.is_dir() else None for folder in self._folders
        )
