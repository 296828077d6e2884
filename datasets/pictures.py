"""Contact sheets: a page of faces and a page of rejects with their reasons, for a person's eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from datasets.crop import decode_jpeg
from datasets.decode import RgbImage, decode_photo
from datasets.publish import staged_file
from datasets.schema import Rejected
from datasets.shard import REJECTS, SHARDS
from datasets.snapshots import Snapshot
from datasets.sources import read_photo

_COLUMNS = 12
_ROWS = 8
_TILE_PX = 112
_CAPTION_PX = 14
_MAX_PIXELS = 64_000_000
_MAX_BYTES = 64 << 20


def contact_sheet(tiles: Sequence[tuple[RgbImage | None, str]], columns: int) -> RgbImage:
    """Lay pictures with captions on a white page.

    Args:
        tiles: (H, W, 3) uint8 RGB pictures of any size, None for one that cannot be shown, each
            with a caption.
        columns: pictures in a row.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    num_rows = max(1, -(-len(tiles) // columns))
    cell_height = _TILE_PX + _CAPTION_PX
    page = np.full((num_rows * cell_height, columns * _TILE_PX, 3), 255, np.uint8)
    for position, (image, caption) in enumerate(tiles):
        top, left = position // columns * cell_height, position % columns * _TILE_PX
        page[top : top + _TILE_PX, left : left + _TILE_PX] = _tile(image)
        # OpenCV's font has no letters beyond ASCII.
        text = caption.encode("ascii", "replace").decode()[:18]
        origin = (left + 2, top + _TILE_PX + _CAPTION_PX - 4)
        cv2.putText(
            page, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.34, (40, 40, 40), 1, cv2.LINE_AA
        )
    return page


def write_png(path: Path, image: RgbImage) -> None:
    """Write an (H, W, 3) uint8 RGB picture as PNG, replacing an older one.

    Raises:
        ValueError: OpenCV refuses it.
    """
    is_done, raw = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not is_done:
        raise ValueError(f"OpenCV cannot encode an array of shape {image.shape}")
    with staged_file(path, replace=True) as staging:
        staging.write_bytes(raw.tobytes())


def write_faces_page(root: Path, snapshot: Snapshot, path: Path) -> None:
    """Write a page of faces with their identities, sampled evenly over the snapshot's shards."""
    names = [shard.summary.shard for shard in snapshot.shards if shard.summary.rows]
    wanted = _COLUMNS * _ROWS
    tiles: list[tuple[RgbImage | None, str]] = []
    chosen = _spread(names, _ROWS)
    for position, name in enumerate(chosen):
        # One row group is enough: faces of an identity lie beside each other.
        group = pq.ParquetFile(root / SHARDS / f"{name}.parquet").read_row_group(
            0, columns=["identity", "image"]
        )
        take = (wanted - len(tiles)) // (len(chosen) - position)
        for row in group.slice(0, take).to_pylist():
            tiles.append((decode_jpeg(row["image"]), row["identity"]))
    write_png(path, contact_sheet(tiles, _COLUMNS))


def write_rejects_page(root: Path, source: Path, snapshot: Snapshot, path: Path) -> None:
    """Write a page of rejected photos with their reasons, some of every reason."""
    by_reason: dict[str, list[str]] = {reason: [] for reason in snapshot.rejects}
    per_reason = max(1, _COLUMNS * _ROWS // max(1, len(by_reason)))
    for shard in snapshot.shards:
        if any(len(by_reason[reason]) < per_reason for reason in shard.summary.rejects):
            table = pq.read_table(root / REJECTS / f"{shard.summary.shard}.parquet")
            for row in table.to_pylist():
                if len(by_reason[row["reason"]]) < per_reason:
                    by_reason[row["reason"]].append(row["source"])
    tiles = [
        (_thumbnail(source, name), reason) for reason, names in by_reason.items() for name in names
    ]
    write_png(path, contact_sheet(tiles, _COLUMNS))


def _tile(image: RgbImage | None) -> RgbImage:
    tile = np.full((_TILE_PX, _TILE_PX, 3), 200, np.uint8)
    if image is None:
        return tile
    height, width = image.shape[:2]
    scale = (_TILE_PX - 2) / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image, (new_width, new_height), interpolation=how)
    top, left = (_TILE_PX - new_height) // 2, (_TILE_PX - new_width) // 2
    tile[top : top + new_height, left : left + new_width] = small
    return tile


def _thumbnail(source: Path, name: str) -> RgbImage | None:
    try:
        raw = read_photo(source, name, max_bytes=_MAX_BYTES)
        return decode_photo(raw, max_pixels=_MAX_PIXELS)
    except Rejected:
        return None


def _spread(names: Sequence[str], count: int) -> list[str]:
    """Choose up to `count` names at even distances."""
    count = min(count, len(names))
    return [names[position * len(names) // count] for position in range(count)]
