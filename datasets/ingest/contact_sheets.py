"""Contact sheets: a page of faces and a page of rejects with their reasons, for a person's eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facequarry.datasets.detection.decode import decode_photo
from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.publish import staged_file
from facequarry.datasets.faces.jpeg import RgbImage, decode_jpeg
from facequarry.datasets.faces.schema import ROW_GROUP_ROWS, Reason, Rejected
from facequarry.datasets.faces.shards import SHARDS
from facequarry.datasets.faces.snapshots import Snapshot
from facequarry.datasets.sources.photos import Photo, Source, photos_of

_COLUMNS = 12
_ROWS = 8
_TILE_PX = 112
_LINE_PX = 14
_LINE_LETTERS = 17
_MAX_PIXELS = 64_000_000
_MAX_BYTES = 64 << 20
# They would do here what they did to an actor.
_NOT_SHOWN = (Reason.CRASHED, Reason.TOO_LARGE)


def contact_sheet(tiles: Sequence[tuple[RgbImage | None, str]], columns: int) -> RgbImage:
    """Lay pictures with captions on a white page.

    Args:
        tiles: (H, W, 3) uint8 RGB pictures of any size, None for one that cannot be shown, each
            with a caption of one line or more.
        columns: pictures in a row.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    captions = [caption.splitlines() for _, caption in tiles]
    cell_height = _TILE_PX + _LINE_PX * max(map(len, captions), default=1)
    num_rows = max(1, -(-len(tiles) // columns))
    page = np.full((num_rows * cell_height, columns * _TILE_PX, 3), 255, np.uint8)
    for position, ((image, _), lines) in enumerate(zip(tiles, captions, strict=True)):
        top, left = position // columns * cell_height, position % columns * _TILE_PX
        page[top : top + _TILE_PX, left : left + _TILE_PX] = _tile(image)
        for number, line in enumerate(lines, 1):
            _write_line(page, line, left + 2, top + _TILE_PX + number * _LINE_PX - 4)
    return page


def _write_line(page: RgbImage, line: str, left: int, base: int) -> None:
    # OpenCV's font has no letters beyond ASCII.
    text = line.encode("ascii", "replace").decode()
    if len(text) > _LINE_LETTERS:  # what tells photos apart is mostly at the end
        text = text[:6] + ".." + text[8 - _LINE_LETTERS :]
    cv2.putText(
        page, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, 0.34, (40, 40, 40), 1, cv2.LINE_AA
    )


def write_png(path: Path, image: RgbImage) -> None:
    """Write an (H, W, 3) uint8 RGB picture as PNG, replacing an older one.

    Raises:
        BadInput: OpenCV refuses it.
    """
    is_done, raw = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not is_done:
        raise BadInput(f"OpenCV cannot encode an array of shape {image.shape}")
    with staged_file(path, replace=True) as staging:
        staging.write_bytes(raw.tobytes())


def write_faces_page(root: Path, snapshot: Snapshot, path: Path) -> None:
    """Write a page of faces with their identities, at even distances over the snapshot."""
    chosen = np.unique(np.linspace(0, snapshot.num_faces - 1, _COLUMNS * _ROWS).astype(np.int64))
    tiles: list[tuple[RgbImage | None, str]] = []
    for shard in snapshot.shards:
        first, end = shard.first_face_index, shard.first_face_index + shard.summary.rows
        rows = (chosen[(chosen >= first) & (chosen < end)] - first).tolist()
        if rows:
            file = pq.ParquetFile(root / SHARDS / f"{shard.summary.shard}.parquet")
            tiles += [_face_tile(file, row) for row in rows]
    write_png(path, contact_sheet(tiles, _COLUMNS))


def write_rejects_page(source: Source, photos: pa.Table, rejects: pa.Table, path: Path) -> None:
    """Write a page of rejected photos with their reasons, some of every reason.

    Args:
        source: where the photos are.
        photos: its listing; a reject that it lacks is shown as an empty tile.
        rejects: the rejects of `datasets.known.Known`.
        path: the PNG to write.
    """
    reasons = sorted(set(rejects["reason"].to_pylist()))
    per_reason = max(1, _COLUMNS * _ROWS // max(1, len(reasons)))
    tiles: list[tuple[RgbImage | None, str]] = []
    for reason in reasons:
        some = rejects.filter(pc.equal(rejects["reason"], reason)).slice(0, per_reason)
        rows = pc.index_in(some["source"], value_set=photos["source"].combine_chunks())
        found = {photo.source: photo for photo in photos_of(photos.take(rows.drop_null()))}
        for name in some["source"].to_pylist():
            can_show = name in found and reason not in _NOT_SHOWN
            image = _thumbnail(source, found[name]) if can_show else None
            tiles.append((image, "\n".join([reason, *name.split("/")])))
    write_png(path, contact_sheet(tiles, _COLUMNS))


def _face_tile(file: pq.ParquetFile, row: int) -> tuple[RgbImage, str]:
    group, row = divmod(row, ROW_GROUP_ROWS)
    table = file.read_row_group(group, columns=["source", "image"]).slice(row, 1)
    (face,) = table.to_pylist()
    return decode_jpeg(face["image"]), face["source"].replace("/", "\n")


def _tile(image: RgbImage | None) -> RgbImage:
    tile = np.full((_TILE_PX, _TILE_PX, 3), 200, np.uint8)
    if image is None:
        return tile
    if image.shape == tile.shape:
        return image
    height, width = image.shape[:2]
    scale = (_TILE_PX - 2) / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, (new_width, new_height), interpolation=how)
    top, left = (_TILE_PX - new_height) // 2, (_TILE_PX - new_width) // 2
    tile[top : top + new_height, left : left + new_width] = small
    return tile


def _thumbnail(source: Source, photo: Photo) -> RgbImage | None:
    try:
        raw = source.read(photo, max_bytes=_MAX_BYTES)
        # Small at once: a page of whole photos would take gigabytes.
        return _tile(decode_photo(raw, max_pixels=_MAX_PIXELS))
    except Rejected:
        return None
