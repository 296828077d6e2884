"""Every path under `runs/NAME/`, and what is published there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facequarry.datasets.disk.publish import numbered

METRICS = "metrics.json"


@dataclass(frozen=True, slots=True)
class RunDir:
    """One run on disk. Paths only: nothing is read or made until a method says so."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, of the last attempt."""
        return self.root / "config.json"

    @property
    def faces(self) -> Path:
        """The snapshot of faces that all face_index values of the run refer to."""
        return self.root / "faces.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of `step=000000500/`."""
        return self.root / "checkpoints"

    @property
    def generations(self) -> Path:
        """Folder of `gen=000003/`."""
        return self.root / "generations"

    @property
    def evaluations(self) -> Path:
        """Folder of `step=000000500/` with metrics and pictures."""
        return self.root / "evaluations"

    @property
    def events(self) -> Path:
        """Folder of `<stage>.jsonl`."""
        return self.root / "events"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's log folder."""
        return self.root / "tensorboard"

    @property
    def pictures(self) -> Path:
        """Pictures of the whole run: loss, mined triplets, refresh timeline."""
        return self.root / "pictures"

    @property
    def queue_journal(self) -> Path:
        """The triplet queue's journal."""
        return self.root / "queue.jsonl"

    @property
    def driver_lock(self) -> Path:
        """Held by the one process that drives the run."""
        return self.root / ".driver.lock"

    @property
    def miner_lock(self) -> Path:
        """Held by the one miner that may publish generations."""
        return self.root / ".miner.lock"

    @property
    def queue_lock(self) -> Path:
        """Held by the one queue that may write the journal, for as long as its process lives."""
        return self.root / ".queue.lock"

    @property
    def trainer_lock(self) -> Path:
        """Held by rank 0 of the one group of workers that trains."""
        return self.root / ".trainer.lock"

    def checkpoint(self, step: int) -> Path:
        """Folder of the checkpoint at `step`."""
        return self.checkpoints / f"step={step:09d}"

    def generation(self, number: int) -> Path:
        """Folder of generation `number`."""
        return self.generations / f"gen={number:06d}"

    def evaluation(self, step: int, part: str = "held_out") -> Path:
        """Folder of the evaluation of the checkpoint at `step`; other parts get their own."""
        suffix = "" if part == "held_out" else f"-{part}"
        return self.evaluations / f"step={step:09d}{suffix}"

    def checkpoint_steps(self) -> list[int]:
        """Steps of the published checkpoints, ascending."""
        return numbered(self.checkpoints, "step=")

    def generation_numbers(self) -> list[int]:
        """Numbers of the published generations, ascending."""
        return numbered(self.generations, "gen=")

    def evaluation_steps(self) -> list[int]:
        """Steps whose held-out evaluation is published, ascending."""
        return numbered(self.evaluations, "step=", METRICS)
