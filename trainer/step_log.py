"""A training step's figures, to the event log and to TensorBoard; rank 0 alone writes."""

from __future__ import annotations

import torch

from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.batches import Batch
from facequarry.trainer.losses import TripletLoss
from facequarry.trainer.world import World

_AVERAGED = (
    "loss_d2",
    "active_share",
    "in_band_share",
    "now_hard_share",
    "now_easy_share",
    "grad_norm",
)
_SUMMED = ("num_triplets", "num_faces", "num_not_finite")


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
            self._events = EventLog(run.events, "trainer", attempt=attempt)
            self._folder = run.tensorboard

    def start(self, step: int, *, world_size: int) -> None:
        """Log that training goes on from `step`."""
        if self._events:
            # Imported here: TensorBoard costs every other rank a second at start for nothing.
            from torch.utils.tensorboard import SummaryWriter

            self._events.write("start", step=step, resumed_step=step, world_size=world_size)
            # What an earlier attempt wrote of the steps to come is not shown beside ours.
            self._board = SummaryWriter(str(self._folder), purge_step=step)

    def step(
        self,
        batch: Batch,
        figures: dict[str, float],
        *,
        learning_rate: float,
        wait_s: float,
        step_s: float,
    ) -> None:
        """Log one completed step, from its figures `over_ranks`."""
        if not self._events:
            return
        values = {name: figures[name] for name in _AVERAGED}
        num_triplets, num_faces = (round(figures[name]) for name in ("num_triplets", "num_faces"))
        values |= {
            "learning_rate": learning_rate,
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


def over_ranks(
    world: World,
    result: TripletLoss,
    embeddings: torch.Tensor,
    grad_norm: torch.Tensor,
    *,
    weight: float,
) -> dict[str, float]:
    """Return a step's figures over all ranks by name: means, and sums of what is counted.

    Every rank calls it and gets the same. `num_not_finite` counts embeddings.

    Args:
        world: this rank.
        result: of this rank's triplets.
        embeddings: (F, D) of its faces.
        grad_norm: scalar, of the gradient that the ranks share.
        weight: of its triplets, `World.weight_of`: loss and shares are means over all triplets.
    """
    is_finite = torch.isfinite(embeddings.detach()).all(dim=1)
    counts = torch.tensor([result.num_triplets, len(embeddings)], dtype=torch.float32)
    of_triplets = [
        result.loss.detach(),
        result.active_share,
        result.in_band_share,
        result.now_hard_share,
        result.now_easy_share,
    ]
    mine = [
        *(weight * figure for figure in of_triplets),
        grad_norm,
        *counts.to(embeddings.device),
        (~is_finite).sum().float(),
    ]
    figures = dict(zip(_AVERAGED + _SUMMED, world.mean(torch.stack(mine)).tolist(), strict=True))
    return figures | {name: figures[name] * world.size for name in _SUMMED}
