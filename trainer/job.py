"""One rank's work as a value that pickles: open the faces, then run the loop."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.faces.split import Split
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import TripletSource
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.batches import RandomTriplets
from facequarry.trainer.batch.online import IdentityBatches, identity_batches
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.loop import train
from facequarry.trainer.step_log import StepLog
from facequarry.trainer.world import World

_LOCK_TIMEOUT_S = 90.0  # the workers of a killed driver live on for seconds, or far more


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
        """Train as `world.rank`; return the last step.

        Raises:
            LockHeld: a worker of the attempt before lives on and does not end.
        """
        with contextlib.ExitStack() as stack:
            if world.rank == 0:
                # Before it looks for checkpoints: none is published or pruned by another from here.
                stack.enter_context(WriterLock(self.run.trainer_lock, timeout_s=_LOCK_TIMEOUT_S))
            faces = RunFaces(self.faces)
            return train(
                self.config,
                run=self.run,
                faces=faces,
                source=self.source,
                random=self.random_triplets(faces.store),
                online=self.identity_batches(faces.store),
                world=world,
                margin=self.margin,
                seed=self.seed,
                log=StepLog(self.run, attempt=self.attempt, world=world),
                batch_timeout_s=self.batch_timeout_s,
            )

    def random_triplets(self, first: FaceStore) -> RandomTriplets:
        """Draw from the snapshot that the run started with, whatever is ingested later."""
        face_indices = self.split.faces(first, "train")
        return RandomTriplets(face_indices, first.identity_index[face_indices], seed=self.seed)

    def identity_batches(self, first: FaceStore) -> IdentityBatches | None:
        """Draw a step's faces from that same snapshot, where triplets are found in the batch."""
        if self.config.selection != "online_semi_hard":
            return None
        face_indices = self.split.faces(first, "train")
        identities = first.identity_index[face_indices]
        return identity_batches(self.config, face_indices, identities, seed=self.seed)
