"""A small face store and a run's files for the trainer's tests: no Ray, no detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from datasets.faces import FaceStore
from datasets.run_dir import RunDir
from datasets.triplets import TRIPLETS, Lease, RowRange, publish_generation
from tests.datasets.photos import publish_plainly, write_tree
from trainer.batches import RandomTriplets

IDENTITIES = {f"n{number:06d}": 3 + number % 3 for number in range(8)}


def small_store(folder: Path) -> FaceStore:
    """Return 8 identities of 3 to 5 faces, 32 px."""
    publish_plainly(write_tree(folder / "photos", IDENTITIES), folder / "faces")
    return FaceStore.open(folder / "faces", folder / "cache")


def random_triplets(store: FaceStore, seed: int = 0) -> RandomTriplets:
    return RandomTriplets(np.arange(store.num_faces), store.identity_index, seed=seed)


def publish_rows(run: RunDir, number: int, rows: np.ndarray, *, mined_at_step: int = 0) -> None:
    """Publish (T, 3) face_index rows as a generation."""
    d2 = np.full(len(rows), 0.5, np.float32)
    columns = dict(zip(("anchor", "positive", "negative"), rows.T, strict=True))
    kinds = ["semi_hard"] * len(rows)
    publish_generation(
        run.generation(number),
        pa.table({**columns, "d2_ap": d2, "d2_an": d2, "kind": kinds}).cast(TRIPLETS),
        pa.table({"reason": pa.array([], pa.string())}),
        number=number,
        mined_at_step=mined_at_step,
        facts={},
        timing={},
    )


class RandomSource:
    """Leases random triplets for every step; records what was asked."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.asked: list[int] = []

    def lease(self, step: int) -> Lease:
        self.asked.append(step)
        return Lease(step, None, (RowRange(None, 0, self.batch),))
