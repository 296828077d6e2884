"""A small face store, a small training and a run's files for tests: no Ray, no detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from facequarry.datasets.faces.snapshots import newest_snapshot_number
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import TRIPLETS, Lease, RowRange, TripletSource
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.batches import RandomTriplets
from facequarry.trainer.batch.online import identity_batches
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.loop import train
from facequarry.trainer.step_log import StepLog
from facequarry.trainer.world import World
from tests.datasets.generations import publish_generation
from tests.datasets.photos import publish_plainly, write_tree

IDENTITIES = {f"n{number:06d}": 3 + number % 3 for number in range(8)}


def small_store(folder: Path) -> FaceStore:
    """Return 8 identities of 3 to 5 faces, 32 px."""
    return publish(folder, IDENTITIES).open()


def publish(folder: Path, photos_per_identity: dict[str, int]) -> FacesAt:
    """Publish the next snapshot of `folder/faces`, with what these photos add."""
    publish_plainly(write_tree(folder / "photos", photos_per_identity), folder / "faces")
    number = newest_snapshot_number(folder / "faces")
    return FacesAt(root=folder / "faces", cache=folder / "cache", snapshot=number)


def still(store: FaceStore) -> RunFaces:
    """Return faces that no newer snapshot follows."""
    number = store.manifest.number
    return RunFaces(FacesAt(root=Path("absent"), cache=Path("absent"), snapshot=number), store)


def random_triplets(store: FaceStore, seed: int = 0) -> RandomTriplets:
    return RandomTriplets(np.arange(store.num_faces), store.identity_index, seed=seed)


def train_small(
    run: RunDir,
    faces: RunFaces,
    config: TrainerConfig,
    *,
    source: TripletSource | None = None,
    world: World = World(),  # noqa: B008  (a frozen value)
    attempt: int = 1,
    margin: float = 0.2,
) -> int:
    """Train in this process, on random triplets where no source is given; return the last step."""
    return train(
        config,
        run=run,
        faces=faces,
        source=source or RandomSource(config.batch),
        random=random_triplets(faces.store),
        world=world,
        margin=margin,
        seed=0,
        log=StepLog(run, attempt=attempt, world=world),
        online=identity_batches(
            config, np.arange(faces.store.num_faces), faces.store.identity_index, seed=0
        )
        if config.selection == "online_semi_hard"
        else None,
    )


def publish_rows(
    run: RunDir, number: int, rows: np.ndarray, *, mined_at_step: int = 0, snapshot: int = 1
) -> None:
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
        facts={"snapshot": snapshot},
        timing={},
    )


class RandomSource:
    """Leases random triplets for every step; records what was asked."""

    wants_checkpoint = False

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.asked: list[int] = []

    def lease(self, step: int) -> Lease:
        self.asked.append(step)
        return Lease(step, None, (RowRange(None, 0, self.batch),))
