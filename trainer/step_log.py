"""A training step's figures, to the event log and to TensorBoard; rank 0 alone writes."""

from __future__ import annotations

import torch

from datasets.events import EventLog
from datasets.run_dir import RunDir
from trainer.batches import Batch
from trainer.losses import TripletLoss
from trainer.world import World

_AVERAGED = (
    "loss_d2",
    "active_share",
    "in_band_share",
    "now_hard_share",
    "now_easy_share",
)
_SUMMED = ("num_triplets", "num_faces")


class StepLog:
    """Writes `trainer/...` events and mirrors the numbers to TensorBoard.

    Args:
        run: the run directory.
        attempt: how often the run was started.
        world: this rank; others than rank 0 write nothing.
    """

    def __init__(self, run: RunDir, *, attempt: int, world: World) -> None:
        self._world = world
        self._events: EventLog | None = None
        if world.rank == 0:
            # Imported here: TensorBoard costs every other rank a second at start for nothing.
            from torch.utils.tensorboard import SummaryWriter

            self._events = EventLog(run.events, "trainer", attempt=attempt)
            self._board = SummaryWriter(str(run.tensorboard))

    def figures(self, result: TripletLoss, *, num_faces: int, num_triplets: int) -> torch.Tensor:
        """Return this rank's figures as one tensor, to be averaged over the ranks."""
        return torch.stack(
            [
                result.loss.detach(),
                result.active_share,
                result.in_band_share,
                result.now_hard_share,
                result.now_easy_share,
                *torch.tensor([float(num_triplets), float(num_faces)]).to(result.loss.device),
            ]
        )

    def start(self, step: int, *, world_size: int) -> None:
        """Log that training goes on from `step`."""
        if self._events:
            self._events.write("start", step=step, resumed_step=step, world_size=world_size)

    def step(self, batch: Batch, figures: torch.Tensor, *, wait_s: float, step_s: float) -> None:
        """Log one completed step."""
        if not self._events:
            return
        means = dict(zip(_AVERAGED + _SUMMED, figures.tolist(), strict=True))
        num_triplets, num_faces = (round(means.pop(name) * self._world.size) for name in _SUMMED)
        values: dict[str, float] = means | {
            "num_triplets": num_triplets,
            "wait_s": wait_s,
            "step_s": step_s,
            "faces_per_s": num_faces / step_s,
            "repeats": batch.repeats,
        }
        if num_triplets:
            values["faces_per_triplet"] = num_faces / num_triplets
        if batch.staleness_steps is not None:
            values["staleness_steps"] = batch.staleness_steps
        self._events.write("step", step=batch.step, generation=batch.generation, **values)
        for name, value in values.items():
            self._board.add_scalar(f"trainer/{name}", value, batch.step)

    def checkpoint(self, step: int, *, seconds: float, deleted_steps: list[int]) -> None:
        """Log a published checkpoint, and those that were deleted after it."""
        if self._events:
            self._events.write(
                "checkpoint", step=step, checkpoint_s=seconds, deleted_steps=deleted_steps
            )

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self._events:
            self._board.close()
