"""One rank's work as a value that pickles: open the faces, then run the loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets.faces import FaceStore
from datasets.run_dir import RunDir
from datasets.split import Split
from datasets.triplets import TripletSource
from trainer.batches import RandomTriplets
from trainer.config import TrainerConfig
from trainer.loop import train
from trainer.step_log import StepLog
from trainer.world import World


@dataclass(frozen=True, kw_only=True, slots=True)
class FacesAt:
    """Where a process finds the faces.

    Attributes:
        root: the faces folder that ingest published into.
        cache: this node's memory-mapped cache, filled from the shards on first use.
        snapshot: which snapshot.
    """

    root: Path
    cache: Path
    snapshot: int

    def open(self) -> FaceStore:
        """Open the store, filling the node's cache where it is not there yet."""
        return FaceStore.open(self.root, self.cache, snapshot=self.snapshot)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainJob:
    """Everything a training process needs.

    Attributes:
        config: the trainer's configuration.
        run: the run directory, on storage that all nodes see.
        faces: where the faces are.
        split: which identities are trained on.
        source: answers with leases; pickles (a client of the queue actor).
        margin: of the triplet loss, squared L2; the miner's.
        seed: the run's seed.
        attempt: how often the run was started.
        batch_timeout_s: longest wait for one batch; longer than the source's own.
    """

    config: TrainerConfig
    run: RunDir
    faces: FacesAt
    split: Split
    source: TripletSource
    margin: float
    seed: int
    attempt: int
    batch_timeout_s: float

    def work(self, world: World) -> int:
        """Train as `world.rank`; return the last step."""
        store = self.faces.open()
        face_indices = self.split.faces(store, "train")
        random = RandomTriplets(face_indices, store.identity_index[face_indices], seed=self.seed)
        return train(
            self.config,
            run=self.run,
            store=store,
            source=self.source,
            random=random,
            world=world,
            margin=self.margin,
            seed=self.seed,
            log=StepLog(self.run, attempt=self.attempt, world=world),
            batch_timeout_s=self.batch_timeout_s,
        )
