"""What a refresh that embeds a part of the identities still finds of what a full one does.

Each row mines a whole cycle, part after part, and counts over the pairs for which the full gallery
has a semi-hard negative: those that have one within their part, and those whose nearest one is in
it. Identities come in groups that look alike, as people do; or name arrays of your own.

    python -m benchmarks.budget
    python -m benchmarks.budget --embeddings E.npy --labels L.npy
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.common import show
from facequarry.miner import MinerConfig, mine
from facequarry.miner.refresh.budget.rotation import next_part
from facequarry.miner.refresh.budget.similarity import centres, order_by_similarity, probe_faces

GROUPS, IDENTITIES, FACES, DIM = 60, 1200, 8, 64
CONFIG = MinerConfig(positives="random", positives_per_anchor=2, engine="exact")
PARTS = (2, 3, 6)
PROBED = (0, 1, 4, None)

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--labels", type=Path)
    args, _ = parser.parse_known_args()
    if args.embeddings is None:
        embeddings, identities = grouped_faces()
    else:
        embeddings, identities = np.load(args.embeddings), np.load(args.labels).astype(np.int64)
    full = mined(embeddings, identities, np.arange(len(identities)))
    rows = [row(embeddings, identities, full, parts, count) for parts in PARTS for count in PROBED]
    show(
        f"{len(identities):,} faces, {np.unique(identities).size:,} identities: of the "
        f"{full.num_rows:,} pairs that are semi-hard in the full gallery",
        ("parts, order", "still semi-hard", "same nearest one", "probe, share of the faces"),
        rows,
        ["order: random; by so many faces of each identity; by all of them (not to be had)"],
    )


def grouped_faces() -> tuple[Floats, Ints]:
    """Return unit rows of people in groups: a group's people lie nearer to each other."""
    random = np.random.default_rng(0)
    groups = random.normal(size=(GROUPS, DIM))
    people = groups[np.arange(IDENTITIES) % GROUPS] + 0.7 * random.normal(size=(IDENTITIES, DIM))
    identities = np.repeat(np.arange(IDENTITIES), FACES)
    rows = people[identities] + 0.6 * random.normal(size=(identities.size, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), identities


def row(
    embeddings: Floats, identities: Ints, full: pa.Table, parts: int, count: int | None
) -> tuple[str, str, str, str]:
    """Mine one cycle and return its line of the table."""
    known, faces = np.unique(identities, return_counts=True)
    probed = probe_faces(np.arange(len(identities)), identities, count or int(faces.max()))
    if count == 0:
        order = np.random.default_rng(1).permutation(known.size)
    else:
        points = centres(embeddings[probed], identities[probed], known)
        order = order_by_similarity(points, faces, parts)
    tables = [
        mined(embeddings, identities, np.flatnonzero(np.isin(identities, known[part])))
        for part in cycle(order, faces, parts)
    ]
    both = full.join(
        pa.concat_tables(tables), ["anchor", "positive"], right_suffix="_part", join_type="inner"
    )
    same = np.asarray(both["negative"]) == np.asarray(both["negative_part"])
    name = {0: "random", None: "by all"}.get(count, f"by {count}")
    cost = 0.0 if count == 0 else probed.size / len(identities)
    shares = (both.num_rows / full.num_rows, same.sum() / full.num_rows, cost)
    return (f"{parts}, {name}", *(f"{share:.1%}" for share in shares))  # type: ignore[return-value]


def cycle(order: Ints, faces: Ints, parts: int) -> Iterator[Ints]:
    """Yield the identities of each part."""
    most = -(-int(faces.sum()) // parts)
    while order.size:
        size = next_part(faces[order], faces[order], most=most, least_rows=1)
        yield order[:size]
        order = order[size:]


def mined(embeddings: Floats, identities: Ints, rows: Ints) -> pa.Table:
    """Return the pairs of these rows that have a semi-hard negative among them, and the nearest."""
    found = mine(embeddings[rows], identities[rows], config=CONFIG, seed=0, row_ids=rows)
    return found.table.select(["anchor", "positive", "negative"])


if __name__ == "__main__":
    main()
