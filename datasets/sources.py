"""Where photos come from: a folder of identity folders, VGGFace2's tree among them.

    list_photos(Path("VGGFace2/train"))      # n000002/0001_01.jpg, n000002/0002_01.jpg, ...

A photo is named by its path relative to the source's root. Names are bytes on disk and text in
Parquet: a byte that is not UTF-8 is written as `%FF`, and `%` itself as `%25`, so that every name
leads back to its file.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from datasets.schema import Reason, Rejected

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, slots=True, order=True)
class Photo:
    """One photo of one identity; photos sort by identity, then source."""

    identity: str
    source: str
    """Path relative to the source's root, POSIX separators."""
    size_bytes: int
    """Size at listing; part of a shard's digest."""
    box: tuple[float, float, float, float] | None = None
    """Where the right face is, x0 y0 x1 y1 px; None where nobody said."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds."""

    photos: list[Photo]
    """The photos to look at, sorted."""
    left_out: dict[str, int]
    """Photos that are not looked at, by reason; reasons without any are absent."""


def list_photos(root: Path, *, min_photos_per_identity: int = 1) -> list[Photo]:
    """List the photos of a folder of identity folders, as `scan_photos` does."""
    return scan_photos(root, min_photos_per_identity=min_photos_per_identity).photos


def scan_photos(root: Path, *, min_photos_per_identity: int = 1) -> Listing:
    """List the photos of a folder of identity folders, and count those left out.

    Files lie directly in their identity's folder and have an image's suffix; hidden names and
    deeper folders are not looked at.

    Args:
        root: the folder that holds `<identity>/<image>`.
        min_photos_per_identity: leave out identities with fewer photos.

    Raises:
        FileNotFoundError: `root` is no folder.
        ValueError: no photo is left; the sentence says what was found instead.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; name the folder that holds <identity>/<image>")
    photos: list[Photo] = []
    num_folders = num_photos = num_loose = 0
    for entry in os.scandir(root):
        if entry.name.startswith("."):
            continue
        if not _is_folder(entry):
            num_loose += _has_image_suffix(entry.name)
            continue
        num_folders += 1
        found = _photos_of(entry)
        num_photos += len(found)
        if len(found) >= min_photos_per_identity:
            photos.extend(found)
    if not photos:
        raise ValueError(
            _nothing_found(root, num_folders, num_photos, num_loose, min_photos_per_identity)
        )
    left_out = {
        "of an identity with too few photos": num_photos - len(photos),
        "outside any identity's folder": num_loose,
    }
    return Listing(sorted(photos), {reason: n for reason, n in left_out.items() if n})


def read_photo(root: Path, source: str, *, max_bytes: int) -> bytes:
    """Read one photo's file.

    Raises:
        Rejected: the file is unreadable, empty, larger than `max_bytes` or no regular file.
    """
    path = root / path_of(source)
    try:
        # A FIFO or device with an image's name must neither block nor be read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Rejected(Reason.UNREADABLE, "not a regular file")
            if status.st_size > max_bytes:
                raise Rejected(Reason.TOO_LARGE, f"{status.st_size} bytes, limit {max_bytes}")
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise Rejected(Reason.UNREADABLE, error.strerror or type(error).__name__) from error
    if not raw:
        raise Rejected(Reason.EMPTY_FILE, "0 bytes")
    return raw


def name_of(path: str) -> str:
    """Return a relative path as the text that names it in Parquet."""
    text = path.replace("%", "%25")
    return "".join(
        # Python keeps a byte that is not UTF-8 as a lone surrogate U+DC80..U+DCFF.
        f"%{ord(char) - 0xDC00:02X}" if 0xDC80 <= ord(char) <= 0xDCFF else char
        for char in text
    )


def path_of(name: str) -> str:
    """Return the relative path that `name_of` named."""
    return os.fsdecode(unquote_to_bytes(name))


def _photos_of(folder: os.DirEntry[str]) -> list[Photo]:
    identity = name_of(folder.name)
    return [
        Photo(identity, f"{identity}/{name_of(entry.name)}", _size_of(entry))
        for entry in os.scandir(folder.path)
        if _has_image_suffix(entry.name) and not _is_folder(entry)
    ]


def _has_image_suffix(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # reading it will say why
        return 0


def _nothing_found(
    root: Path, num_folders: int, num_photos: int, num_loose: int, min_photos: int
) -> str:
    if num_photos:
        return (
            f"none of the {num_folders} identities under {root} has {min_photos} photos or more; "
            "lower min_photos_per_identity"
        )
    if num_loose:
        return (
            f"no identity folders under {root}: {num_loose} photos lie in it directly, "
            "expected one folder for each person, such as n000001/0001_01.jpg"
        )
    found = f"{num_folders} folders without images" if num_folders else "an empty folder"
    return f"no images under {root} ({found}), expected n000001/*.jpg; try: make demo"
