"""Photos in a tar or tar.gz, read where they lie: nothing is unpacked to disk.

The archive is listed once from its beginning to its end, which also proves that it is whole. From
then on each photo is read by its offset. In gzip an offset is reached through restart points (the
zran method, by indexed_gzip), found in that same pass: so any actor reads any part, in any order,
and an ingest that goes on neither lists nor unpacks the archive again.
"""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import json
import os
import tarfile
import weakref
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from indexed_gzip import IndexedGzipFile, ZranError

from facequarry.datasets.disk.errors import BadInput, Damaged
from facequarry.datasets.disk.parquet import reading_parquet
from facequarry.datasets.disk.publish import sha256_file, staged_file
from facequarry.datasets.faces.schema import Reason, Rejected, SourceChanged
from facequarry.datasets.sources.folder import BELOW, NO_IMAGES, OUTSIDE
from facequarry.datasets.sources.photos import (
    LISTING_SCHEMA,
    Listing,
    ListingBuilder,
    OnListing,
    Photo,
    counted,
    is_photo_name,
    name_of,
)

# Restart points: closer ones cost each actor memory (some 36 KB a point), wider ones cost time
# before a photo (half the distance, unpacked at about 300 MB/s).
_MIN_SPACING_BYTES = 4 << 20
_MAX_POINTS = 2048
_BLOCK_BYTES = 512
_LEFT_OUT, _INDEX = b"left_out", b"index_sha256"
_NO_FAULT_OF_THE_ARCHIVE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)

UNSAFE = "archive members with an unsafe path"
LINKS = "archive members that are links"
SPECIAL = "archive members that are no plain files"
TWICE = "archive members with the identity and name of one in another folder"
REPLACED = "archive members that a later one of the same name replaces"


@dataclass(frozen=True, slots=True)
class TarSource:
    """A tar or tar.gz with `.../<identity>/<image>` in it, such as vggface2_train.tar.gz.

    The folders above the identities do not matter: a photo has the same source as in the unpacked
    tree. Names are only looked at, nothing is ever written under them.
    """

    path: Path
    cache: Path
    """Folder for the archive's listing and restart points; every actor must see it."""
    state: tuple[int, int, int]
    """Inode, size and time of the archive when it was opened; it must stay what it was."""
    is_gzip: bool

    @classmethod
    def open(cls, path: Path, cache: Path) -> TarSource:
        """Look at an archive's first bytes.

        Raises:
            BadInput: it is neither a tar nor a tar.gz.
        """
        status = path.stat()
        with path.open("rb") as file:
            head = file.read(_BLOCK_BYTES)
        if head[:2] != b"\x1f\x8b" and head[257:262] != b"ustar":
            raise BadInput(
                f"{path} is a file, but no tar or tar.gz (it starts with {head[:8]!r}); name an "
                "archive, or the folder that holds <identity>/<image>"
            )
        return cls(path, cache, _state(status), is_gzip=head[:2] == b"\x1f\x8b")

    def scan(self, on_listing: OnListing | None = None) -> Listing:
        """List the images, in one pass over the whole archive; later scans read the cache.

        Raises:
            BadInput: the archive is cut off, damaged or no tar.
        """
        photos = self._cached()
        if photos is None:
            photos = self._list(on_listing)
        left_out = json.loads(photos.schema.metadata[_LEFT_OUT])
        return Listing(photos.cast(LISTING_SCHEMA), left_out, "an archive without images")

    def read(self, photo: Photo, *, max_bytes: int) -> bytes:
        """Read one photo's file, as `Source` says.

        Raises:
            SourceChanged: the archive was replaced since it was opened.
        """
        if photo.size_bytes > max_bytes:
            raise Rejected(Reason.TOO_LARGE, f"{photo.size_bytes} bytes, limit {max_bytes}")
        if photo.size_bytes == 0:
            raise Rejected(Reason.EMPTY_FILE, "0 bytes")
        raw = _reader(self).pread(photo.size_bytes, photo.offset_bytes)
        if len(raw) < photo.size_bytes:
            self.check()
            raise Rejected(Reason.TRUNCATED, f"{len(raw)} of {photo.size_bytes} bytes")
        return raw

    def check(self) -> None:
        """See that the archive is the one that was listed, as `Source` says."""
        if _state(self.path.stat()) != self.state:
            raise SourceChanged(f"{self.path} changed while it was read; start the ingest again")

    @property
    def _key(self) -> str:
        name = os.fsencode(self.path) + repr(self.state).encode()
        return hashlib.sha256(name).hexdigest()[:16]

    @property
    def _listing_path(self) -> Path:
        return self.cache / f"{self._key}.parquet"

    @property
    def _index_path(self) -> Path:
        return self.cache / f"{self._key}.gzidx"

    def _cached(self) -> pa.Table | None:
        """Return the listing of an earlier pass; None where there is none that can be used."""
        try:
            with reading_parquet(self._listing_path, "it is made again"):
                photos = pq.read_table(self._listing_path)
            index = sha256_file(self._index_path) if self.is_gzip else ""
        except (FileNotFoundError, Damaged):
            return None
        return photos if (photos.schema.metadata or {}).get(_INDEX) == index.encode() else None

    def _list(self, on_listing: OnListing | None) -> pa.Table:
        try:
            return self._list_whole(on_listing)
        except BaseException:
            self._index_path.unlink(missing_ok=True)
            raise

    def _list_whole(self, on_listing: OnListing | None) -> pa.Table:
        size_bytes = self.state[1]
        with ThreadPoolExecutor(1) as pool:
            index = pool.submit(self._write_index)
            with _saying_what_is_wrong(self.path), self.path.open("rb") as file:
                # Beside listing, this checks what indexed_gzip does not: that the end is there.
                stream: IO[bytes] = gzip.open(file) if self.is_gzip else file  # type: ignore[assignment]
                tell = file.tell
                photos, left_out = _list_members(
                    stream, lambda: on_listing and on_listing(tell() / size_bytes)
                )
            digest = index.result()
        photos = photos.replace_schema_metadata({_LEFT_OUT: json.dumps(left_out), _INDEX: digest})
        with staged_file(self._listing_path, replace=True) as staging:
            pq.write_table(photos, staging)
        return photos

    def _write_index(self) -> str:
        """Write the restart points of a gzip file; return their digest, "" for a plain tar."""
        if not self.is_gzip:
            return ""
        # Photos hardly shrink, so an archive's packed size is about its unpacked one.
        spacing = max(_MIN_SPACING_BYTES, self.state[1] // _MAX_POINTS)
        with (
            _saying_what_is_wrong(self.path),
            IndexedGzipFile(str(self.path), spacing=spacing) as file,
            staged_file(self._index_path, replace=True) as staging,
        ):
            file.build_full_index()
            file.export_index(str(staging))
        return sha256_file(self._index_path)


class _PlainReader:
    """Reads a file at offsets, as `IndexedGzipFile` does; it closes when nobody holds it."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def pread(self, num_bytes: int, offset: int) -> bytes:
        return os.pread(self._descriptor, num_bytes, offset)


@functools.lru_cache(maxsize=4)  # each process opens an archive once
def _reader(source: TarSource) -> _PlainReader | IndexedGzipFile:
    source.check()
    if source.is_gzip:
        return IndexedGzipFile(str(source.path), index_file=str(source._index_path))
    return _PlainReader(source.path)


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _saying_what_is_wrong(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, ZranError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _NO_FAULT_OF_THE_ARCHIVE:
            raise
        raise BadInput(
            f"{path} is cut off, damaged or no tar archive ({error}); fetch it again"
        ) from error


def _list_members(stream: IO[bytes], say: Callable[[], object]) -> tuple[pa.Table, dict[str, int]]:
    """List a tar's photos in one pass, and read it to its very end."""
    left_out: Counter[str] = Counter()
    above: defaultdict[tuple[str, ...], ListingBuilder] = defaultdict(ListingBuilder)
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            path = PurePosixPath(member.name)
            reason = _why_left_out(member, path)
            if reason:
                left_out[reason] += 1
            elif reason is None:
                identity, name = (name_of(part) for part in path.parts[-2:])
                builder = above[path.parts[:-2]]
                builder.add(identity, name, member.size, offset_bytes=member.offset_data)
            say()
        # tarfile takes a header that it cannot read for the end.
        stream.seek(tar.offset)
        end = stream.read(_BLOCK_BYTES)
        if end != bytes(_BLOCK_BYTES):
            raise tarfile.ReadError(f"no member and no end mark at byte {tar.offset}")
        while end:
            if end.count(0) != len(end):
                raise tarfile.ReadError(f"more follows the end mark at byte {tar.offset}")
            end = stream.read(1 << 20)
            say()
    return _of_one_depth({folder: builder.table() for folder, builder in above.items()}, left_out)


def _why_left_out(member: tarfile.TarInfo, path: PurePosixPath) -> str | None:
    """Return why a member gives no photo, "" where nobody would expect one, None where it does."""
    if member.isdir() or path.name.startswith("."):
        return ""
    if not is_photo_name(path.name):
        return NO_IMAGES
    if path.is_absolute() or ".." in path.parts:
        return UNSAFE
    if any(part.startswith(".") for part in path.parts):
        return ""
    if member.issym() or member.islnk():
        return LINKS
    if not member.isreg() or member.issparse():
        return SPECIAL
    return None if len(path.parts) > 1 else OUTSIDE


def _of_one_depth(
    tables: dict[tuple[str, ...], pa.Table], left_out: Counter[str]
) -> tuple[pa.Table, dict[str, int]]:
    """Keep the identity folders of the depth at which most photos lie.

    Args:
        tables: photos by the folders above their identity's.
        left_out: takes the counts of the others.
    """
    at_depth: Counter[int] = Counter()
    for folders, table in tables.items():
        at_depth[len(folders)] += table.num_rows
    depth = min(at_depth, key=lambda depth: (-at_depth[depth], depth), default=0)
    left_out[OUTSIDE] += sum(n for other, n in at_depth.items() if other < depth)
    left_out[BELOW] += sum(n for other, n in at_depth.items() if other > depth)
    kept = [LISTING_SCHEMA.empty_table()]
    for folders, table in tables.items():
        if len(folders) == depth:
            table, replaced = _last_of_each(table)
            left_out[REPLACED] += replaced
            kept.append(table)
    photos, left_out[TWICE] = _last_of_each(pa.concat_tables(kept))
    return photos, counted(left_out)


def _last_of_each(photos: pa.Table) -> tuple[pa.Table, int]:
    """Keep the last member of each source, as unpacking would; return how many went."""
    by = ("identity", "source", "offset_bytes")
    photos = photos.sort_by([(name, "ascending") for name in by]).combine_chunks()
    source = photos["source"].combine_chunks()
    is_last = np.ones(len(source), bool)
    is_last[:-1] = pc.not_equal(source[:-1], source[1:])
    return photos.filter(pa.array(is_last)), int(np.sum(~is_last))
