"""Do two detectors mean the same face? Compares two faces roots made of the same photos.

facequarry ingest --source photos --out faces/hog
facequarry ingest --source photos --out faces/yunet --detector yunet --detector-model YUNET.onnx
python -m benchmarks.faces.agreement faces/hog faces/yunet
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from facequarry.datasets.faces.shards import SHARDS
from facequarry.datasets.faces.snapshots import read_snapshot

FloatArray = NDArray[np.float64]
_COLUMNS = ["source", "box", "width", "height", "num_faces_in_source"]


def read_faces(root: Path) -> pa.Table:
    """Return source, box, size of the photo and number of faces of every face of a root."""
    names = [shard.summary.shard for shard in read_snapshot(root).shards]
    paths = [root / SHARDS / f"{name}.parquet" for name in names]
    return pa.concat_tables([pq.read_table(path, columns=_COLUMNS) for path in paths])


def boxes_of(faces: pa.Table) -> FloatArray:
    """Return (N, 4) boxes, x0 y0 x1 y1, px."""
    return np.array(faces["box"].to_pylist(), np.float64).reshape(-1, 4)


def overlap(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return (N,) intersection over union of boxes (N, 4), pair by pair."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = [np.prod(box[:, 2:] - box[:, :2], axis=1) for box in (a, b)]
    return np.asarray(shared / (areas[0] + areas[1] - shared))


def centre_is_inside(a: FloatArray, b: FloatArray) -> NDArray[np.bool_]:
    """Return (N,) bool: the centre of box a lies in box b."""
    centre = (a[:, :2] + a[:, 2:]) / 2
    return np.asarray(np.all((b[:, :2] <= centre) & (centre <= b[:, 2:]), axis=1))


def main(first: tyro.conf.Positional[Path], second: tyro.conf.Positional[Path]) -> None:
    """Compare the faces of two roots and print a table.

    Args:
        first: a faces root.
        second: another one, of the same photos.
    """
    roots = [read_faces(first), read_faces(second)]
    shared = sorted(set(roots[0]["source"].to_pylist()) & set(roots[1]["source"].to_pylist()))
    rows = [root.take(pa.array(positions(root, shared))) for root in roots]
    a, b = (boxes_of(faces) for faces in rows)
    same = centre_is_inside(a, b) | centre_is_inside(b, a)
    table = Table(title=f"{first} and {second}: {len(shared)} photos with a face in both")
    table.add_column("")
    table.add_column(str(first))
    table.add_column(str(second))
    several = [int(np.sum(np.array(root["num_faces_in_source"].to_pylist()) > 1)) for root in roots]
    table.add_row("faces", *(str(root.num_rows) for root in roots))
    table.add_row("photos with several faces seen", *map(str, several))
    for name, chosen in (("all", np.ones(len(same), bool)), ("where they differ", ~same)):
        shares = [centred(faces.filter(pa.array(chosen))) for faces in rows]
        table.add_row(f"face at the photo's centre, {name}", *shares)
    Console().print(table)
    Console().print(
        f"the same face in {np.sum(same)} photos, another one in {np.sum(~same)}; "
        f"median intersection over union {np.median(overlap(a, b)):.2f}"
    )


def positions(faces: pa.Table, sources: list[str]) -> list[int]:
    """Return the row of each source."""
    row_of = {source: row for row, source in enumerate(faces["source"].to_pylist())}
    return [row_of[source] for source in sources]


def centred(faces: pa.Table) -> str:
    """Say in how many photos the chosen face covers the photo's centre."""
    boxes = boxes_of(faces)
    middle = np.stack([faces["width"].to_numpy(), faces["height"].to_numpy()], axis=1) / 2
    inside = np.all((boxes[:, :2] <= middle) & (middle <= boxes[:, 2:]), axis=1)
    return f"{np.sum(inside)} of {len(inside)}"


if __name__ == "__main__":
    tyro.cli(main)
