"""Photos in a folder of identity folders: LFW, VGGFace2's tree, anyone's.

FolderSource(Path("VGGFace2/train")).scan()      # n000002/0001_01.jpg, n000002/0002_01.jpg, ...
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from facequarry.datasets.disk.errors import NotFound
from facequarry.datasets.faces.schema import Reason, Rejected
from facequarry.datasets.sources.photos import (
    Listing,
    ListingBuilder,
    OnListing,
    Photo,
    counted,
    is_photo_name,
    name_of,
    path_of,
)

OUTSIDE = "photos outside any identity's folder"
BELOW = "photos or folders below an identity's folder"
NO_IMAGES = "files without an image's suffix"


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder that holds `<identity>/<image>`."""

    path: Path

    def scan(self, on_listing: OnListing | None = None) -> Listing:
        """List the images that lie directly in an identity's folder.

        Hidden names are passed over; deeper folders and other files are counted as left out.

        Raises:
            NotFound: there is no such folder (any more).
        """
        if not self.path.is_dir():
            raise NotFound(f"no folder {self.path}; name the folder that holds <identity>/<image>")
        identities: list[os.DirEntry[str]] = []
        left_out: Counter[str] = Counter()
        for entry in os.scandir(self.path):
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                identities.append(entry)
            elif is_photo_name(entry.name):
                left_out[OUTSIDE] += 1
        photos = ListingBuilder()
        for position, folder in enumerate(identities, 1):
            try:
                _add_photos(folder, photos, left_out)
            except OSError:
                left_out["identity folders that cannot be read"] += 1
            if on_listing:
                on_listing(position / len(identities))
        return Listing(
            photos.table(),
            counted(left_out),
            f"{len(identities)} folders without images" if identities else "an empty folder",
        )

    def read(self, photo: Photo, *, max_bytes: int) -> bytes:
        """Read one photo's file, as `Source` says."""
        path = self.path / path_of(photo.source)
        try:
            # A FIFO or device with an image's name must neither block nor be read.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise Rejected(Reason.UNREADABLE, "not a regular file")
                if status.st_size > max_bytes:
                    raise Rejected(Reason.TOO_LARGE, f"{status.st_size} bytes, limit {max_bytes}")
                # Not up to `max_bytes`: Python would set aside as much for every photo.
                raw = file.read(status.st_size)
        except OSError as error:
            raise Rejected(Reason.UNREADABLE, error.strerror or type(error).__name__) from error
        if not raw:
            raise Rejected(Reason.EMPTY_FILE, "0 bytes")
        return raw

    def check(self) -> None:
        """Do nothing: a folder may change."""


def _add_photos(folder: os.DirEntry[str], photos: ListingBuilder, left_out: Counter[str]) -> None:
    identity = name_of(folder.name)
    for entry in os.scandir(folder.path):
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            left_out[BELOW] += 1
        elif is_photo_name(entry.name):
            size_bytes, modified_ns = _size_and_time(entry)
            photos.add(identity, name_of(entry.name), size_bytes, modified_ns=modified_ns)
        else:
            left_out[NO_IMAGES] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _size_and_time(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        status = entry.stat()
    except OSError:  # reading it will say why
        return 0, 0
    return status.st_size, status.st_mtime_ns
