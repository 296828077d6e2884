"""Random access to the faces of a snapshot by face_index.

The images are copied once from the Parquet shards into memory-mapped Arrow files, a cache on the
node's own disk: reading one crop there costs microseconds, where Parquet costs a row group.

    store = FaceStore.open(Path("faces"), cache=Path("cache"))
    images = store.decode([0, 17, 4])        # (3, 160, 160, 3) uint8 RGB
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.disk.publish import sha256_file, staged_file, sweep_staging
from facequarry.datasets.faces.jpeg import RgbImage, decode_jpeg
from facequarry.datasets.faces.schema import FACE_SCHEMA, CorruptShard
from facequarry.datasets.faces.shards import SHARDS, ShardSummary
from facequarry.datasets.faces.snapshots import Snapshot, read_identities, read_snapshot

logger = logging.getLogger(__name__)

FaceIndices = Sequence[int] | NDArray[np.integer]

_CACHE_SCHEMA = pa.schema([FACE_SCHEMA.field(name) for name in ("identity", "source", "image")])
_FILL_TIMEOUT_S = 3600.0


class FaceStore:
    """The faces of one snapshot; open it once a process with `FaceStore.open`.

    Reading is safe from several threads.
    """

    def __init__(
        self, manifest: Snapshot, identities: list[str], batches: list[pa.RecordBatch], workers: int
    ) -> None:
        self.manifest = manifest
        """The snapshot that is read."""
        self.identities = identities
        """Names by identity_index."""
        self.identity_index = _identity_index(batches, identities)
        """(N,) int32, identity_index by face_index."""
        self._batches = batches
        self._images = [_Binary(batch.column("image")) for batch in batches]
        self._starts = [shard.first_face_index for shard in manifest.shards]
        self._workers = workers

    @classmethod
    def open(
        cls, root: Path, cache: Path, snapshot: int | None = None, *, workers: int = 1
    ) -> FaceStore:
        """Open a snapshot, filling the node's cache with the shards that it lacks.

        Several processes may open the same cache at once: the first one fills it. A cache may
        serve several roots and outlives its snapshot: the next one adds its new shards. A cache
        file that is cut short or has other rows than its shard is made again.

        Args:
            root: the faces root.
            cache: a folder on a local disk, made if absent; it takes about the shards' size.
            snapshot: its number; default: the current one.
            workers: threads that fill the cache and decode.

        Raises:
            NotFound: no such snapshot.
            CorruptShard: a shard is absent, or its bytes are not those that were published.
            LockHeld: another process has been filling the cache for an hour.
        """
        manifest = read_snapshot(root, snapshot)
        identities = read_identities(root, manifest.number)
        summaries = [shard.summary for shard in manifest.shards]
        batches = {summary.shard: _map(cache, summary) for summary in summaries}
        missing = [summary for summary in summaries if batches[summary.shard] is None]
        if missing:
            with WriterLock(cache / ".fill.lock", timeout_s=_FILL_TIMEOUT_S):
                sweep_staging(cache)
                with ThreadPoolExecutor(workers) as pool:
                    filled = list(pool.map(lambda summary: _fill(root, cache, summary), missing))
            for summary, batch in zip(missing, filled, strict=True):
                batches[summary.shard] = batch
        return cls(manifest, identities, [batches[summary.shard] for summary in summaries], workers)

    @property
    def num_faces(self) -> int:
        """Faces in the snapshot: N."""
        return len(self.identity_index)

    @property
    def crop_px(self) -> int:
        """Height and width of every face, px."""
        return self.manifest.crop_px

    def sources(self, face_indices: FaceIndices) -> list[str]:
        """Return the photo of each face, as a path relative to the ingested source.

        Raises:
            IndexError: a face_index is out of range.
        """
        return [
            self._batches[shard].column("source")[row].as_py()
            for shard, row in self._rows(face_indices)
        ]

    def jpeg(self, face_index: int) -> bytes:
        """Return one face's JPEG bytes.

        Raises:
            IndexError: the face_index is out of range.
        """
        ((shard, row),) = self._rows([face_index])
        return self._images[shard][row].tobytes()

    def decode(self, face_indices: FaceIndices) -> RgbImage:
        """Decode faces.

        Args:
            face_indices: (B,) integers, in any order, repeats allowed.

        Returns:
            (B, crop_px, crop_px, 3) uint8 RGB.

        Raises:
            IndexError: a face_index is out of range.
        """
        rows = self._rows(face_indices)
        faces = np.empty((len(rows), self.crop_px, self.crop_px, 3), np.uint8)

        def decode_every(first: int) -> None:
            for position in range(first, len(rows), self._workers):
                shard, row = rows[position]
                faces[position] = decode_jpeg(self._images[shard][row])

        if self._workers == 1:
            decode_every(0)
        else:
            with ThreadPoolExecutor(self._workers) as pool:
                list(pool.map(decode_every, range(self._workers)))
        return faces

    def _rows(self, face_indices: FaceIndices) -> list[tuple[int, int]]:
        """Return (shard position, row) of each face."""
        num_faces = self.num_faces
        rows = []
        # In plain Python: NumPy's calls would cost a single face a twentieth of its decoding.
        for face in np.asarray(face_indices, np.int64).reshape(-1).tolist():
            if not 0 <= face < num_faces:
                raise IndexError(f"face_index {face} is out of range 0..{num_faces - 1}")
            # From the right: a shard without rows starts where the next one does.
            shard = bisect_right(self._starts, face) - 1
            rows.append((shard, face - self._starts[shard]))
        return rows


class _Binary:
    """A memory-mapped Arrow binary column, item by item without copies.

    Offsets stay in the mapping too: as Python integers they would take 40 bytes a face.
    """

    def __init__(self, column: pa.Array) -> None:
        _, offsets, data = column.buffers()
        count = len(column) + 1
        # A memoryview's items are plain integers, and quicker to take than NumPy's.
        self._offsets = memoryview(offsets).cast("i")[column.offset :][:count]
        self._data = np.frombuffer(data if data is not None else b"", np.uint8)

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        return self._data[self._offsets[row] : self._offsets[row + 1]]


def _identity_index(batches: list[pa.RecordBatch], identities: list[str]) -> NDArray[np.int32]:
    names = pa.chunked_array([batch.column("identity") for batch in batches], pa.string())
    # One call for all shards: each call builds the table of names anew.
    found = pc.index_in(names, value_set=pa.array(identities, pa.string()))
    if found.null_count:
        raise CorruptShard("a shard holds an identity that the snapshot does not name")
    return np.asarray(found.to_numpy(), np.int32)


def _cache_path(cache: Path, summary: ShardSummary) -> Path:
    # Named by content: roots that share a cache never mix, and a name's bytes never change.
    return cache / f"{summary.shard}-{summary.sha256[:16]}.arrow"


def _fill(root: Path, cache: Path, summary: ShardSummary) -> pa.RecordBatch:
    """Copy a shard into the cache, unless the process that held the lock before did; map it."""
    batch = _map(cache, summary)
    if batch is None:
        _copy(root, cache, summary)
        batch = _map(cache, summary)
    if batch is None:
        raise CorruptShard(
            f"{_cache_path(cache, summary)} cannot be read right after it was written; name a "
            "cache folder on another disk"
        )
    return batch


def _copy(root: Path, cache: Path, summary: ShardSummary) -> None:
    path = root / SHARDS / f"{summary.shard}.parquet"
    if not path.is_file():
        raise CorruptShard(f"{path} is absent; restore it, or ingest into a new folder")
    found = sha256_file(path)
    if found != summary.sha256:
        raise CorruptShard(
            f"{path} has sha256 {found[:16]}..., published was {summary.sha256[:16]}...: its bytes "
            "changed on disk; restore it, or ingest into a new folder"
        )
    with pq.ParquetFile(path) as file:
        table = file.read(columns=_CACHE_SCHEMA.names)
    if table.num_rows != summary.rows:
        raise CorruptShard(f"{path} has {table.num_rows} rows, published were {summary.rows}")
    batches = table.combine_chunks().to_batches()
    if len(batches) > 1:
        raise CorruptShard(
            f"{path} holds more than 2 GiB of crops; ingest with fewer photos_per_shard"
        )
    with (
        staged_file(_cache_path(cache, summary), replace=True) as staging,
        pa.OSFile(str(staging), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)


def _map(cache: Path, summary: ShardSummary) -> pa.RecordBatch | None:
    """Map a shard's cache file; None where there is none, or not a whole one of its rows."""
    path = _cache_path(cache, summary)
    if not path.is_file():
        return None
    try:
        # The mapping outlives its file object: thousands of shards need no open file each.
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            batch = (
                reader.get_batch(0)
                if reader.num_record_batches
                else pa.RecordBatch.from_pylist([], reader.schema)
            )
        batch.validate()
    except (pa.ArrowException, OSError) as error:
        logger.warning("the cache file %s is damaged and is made again: %s", path, error)
        return None
    if not batch.schema.equals(_CACHE_SCHEMA) or batch.num_rows != summary.rows:
        logger.warning("the cache file %s is not that of its shard and is made again", path)
        return None
    return batch
