"""The layout of a large photo set without its pixels, for tests of planning.

    vggface2_layout(1_000_000)                          # a table, in memory
    write_layout(Path("layout"), 1_000_000)             # empty files of the right sizes

It resembles VGGFace2's training part: 8,631 identities with 80 to 843 photos each, 364 on average,
3,141,890 in all; 36 GB, so 12 KB a photo. The spreads about these means are assumed.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from facequarry.datasets.disk.errors import AlreadyExists, BadInput
from facequarry.datasets.disk.publish import staged_folder
from facequarry.datasets.sources.photos import LISTING_SCHEMA

_IDENTITIES, _PHOTOS = 8_631, 3_141_890
_MIN_PHOTOS, _MAX_PHOTOS = 80, 843  # of one identity
_SPREAD_PHOTOS = 125.0
_MEDIAN_BYTES, _SPREAD_BYTES = 10_500.0, 0.5  # log-normal, mean 11.9 KB
_MIN_BYTES, _MAX_BYTES = 1_000, 200_000
# Of 9,293 numbers from n000002 on, VGGFace2 trains on 8,631; the others test or are missing.
_FIRST_NUMBER, _NUMBERS_PER_IDENTITY = 2, 9_293 / 8_631
_FACE_SHARES = (0.92, 0.06, 0.02)  # of the photos whose face is _01, _02, _03
_MAX_SET = 100_000_000


def vggface2_layout(num_photos: int, *, seed: int = 0) -> pa.Table:
    """Return what a listing of such a set holds, sorted by identity and source.

    Args:
        num_photos: 1..100000000; the identities are as many as keep 364 photos each.
        seed: of the counts, names and sizes.

    Returns:
        `num_photos` rows of `LISTING_SCHEMA`, such as n000002, n000002/0001_01.jpg. An identity
        has 80 to 843 photos; a set that is too small for two has one, with all of them.

    Raises:
        BadInput: `num_photos` is out of range.
    """
    if not 1 <= num_photos <= _MAX_SET:
        raise BadInput(f"num_photos is {num_photos}, expected 1..{_MAX_SET}")
    rng = np.random.default_rng(seed)
    num_identities = max(1, round(num_photos * _IDENTITIES / _PHOTOS))
    counts = _photo_counts(num_photos, num_identities, rng)
    last = _FIRST_NUMBER - 1 + int(num_identities * _NUMBERS_PER_IDENTITY)
    others = rng.choice(np.arange(_FIRST_NUMBER + 1, last + 1), num_identities - 1, replace=False)
    numbers = np.concatenate([[_FIRST_NUMBER], np.sort(others)])
    names = pc.binary_join_element_wise("n", _padded(numbers, 6), "")
    identity = names.take(pa.array(np.repeat(np.arange(num_identities), counts)))
    # 1, 2, ... of each identity.
    photo = np.arange(num_photos) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    face = rng.choice(np.arange(1, 4), num_photos, p=_FACE_SHARES)
    files = pc.binary_join_element_wise(_padded(photo, 4), _padded(face, 2), "_")
    paths = pc.binary_join_element_wise(identity, files, "/")
    source = pc.binary_join_element_wise(paths, ".jpg", "")
    sizes = rng.lognormal(np.log(_MEDIAN_BYTES), _SPREAD_BYTES, num_photos)
    sizes = np.clip(sizes, _MIN_BYTES, _MAX_BYTES).astype(np.int64)
    nothing, no_box = (
        np.zeros(num_photos, np.int64),
        pa.nulls(num_photos, pa.list_(pa.float32(), 4)),
    )
    columns = [identity, source, sizes, nothing, nothing, no_box]
    return pa.table(columns, schema=LISTING_SCHEMA)


def write_layout(folder: Path, num_photos: int, *, seed: int = 0) -> int:
    """Write the layout as sparse files: sizes without content; all at once or not at all.

    Returns:
        The number of files.

    Raises:
        BadInput: `num_photos` is out of range.
        AlreadyExists: `folder` holds something, or is a file.
    """
    table = vggface2_layout(num_photos, seed=seed)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExists(f"{folder} is not an empty folder; name a new one or empty it first")
    # A million files would take ten minutes to flush one by one, and hold nothing to lose.
    with staged_folder(folder, flush_files=False) as staging:
        for identity in table["identity"].unique().to_pylist():
            (staging / identity).mkdir()
        for batch in table.to_batches(max_chunksize=100_000):
            sources, sizes = batch["source"].to_pylist(), batch["size_bytes"].to_pylist()
            for source, size in zip(sources, sizes, strict=True):
                descriptor = os.open(staging / source, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                try:
                    os.truncate(descriptor, size)
                finally:
                    os.close(descriptor)
    return num_photos


def _photo_counts(
    num_photos: int, num_identities: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw (num_identities,) counts within VGGFace2's range that add up to `num_photos`."""
    if num_identities == 1:
        return np.array([num_photos])
    drawn = rng.normal(num_photos / num_identities, _SPREAD_PHOTOS, num_identities)
    counts = np.clip(np.round(drawn), _MIN_PHOTOS, _MAX_PHOTOS).astype(np.int64)
    while missing := num_photos - int(counts.sum()):
        room = counts < _MAX_PHOTOS if missing > 0 else counts > _MIN_PHOTOS
        chosen = rng.permutation(np.flatnonzero(room))[: abs(missing)]
        counts[chosen] += np.sign(missing)
    return counts


def _padded(numbers: NDArray[np.int64], digits: int) -> pa.Array:
    return pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), digits, "0")
