"""Which generations may go, and their deletion: journaled before the name does."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path

from facequarry.datasets.disk.publish import remove_published
from facequarry.miner.queue.queue import QueueState
from facequarry.trainer.checkpoints.retention import LIVE_GENERATIONS


def deletable_generations(
    state: QueueState,
    *,
    passed_over: Collection[int],
    published: Sequence[int],
    checkpoint_steps: Sequence[int],
    keep: int,
) -> list[int]:
    """Return the generations that no kept checkpoint can train on again.

    Training goes on from a kept checkpoint of step c with the rows of steps c, c + 1, ... Step 0
    does not count: it is kept to be compared with.

    Args:
        state: of the journal.
        passed_over: generations that the journal says will never be served.
        published: numbers of the published generations, ascending.
        checkpoint_steps: steps of the kept checkpoints.
        keep: newest generations that stay.
    """
    oldest = min((step for step in checkpoint_steps if step), default=0)
    # Rows carried over are served until the generation after the next one begins.
    begins = 2 if state.num_carried else 1
    live = {switch.generation for switch in state.switches[-LIVE_GENERATIONS:]}
    free_from = {generation: 0 for generation in passed_over}
    for position, switch in enumerate(state.switches[:-LIVE_GENERATIONS]):
        if switch.generation is not None:
            free_from[switch.generation] = state.switches[position + begins].first_step
    return [
        number
        for number in published[:-keep]
        if number not in live and number in free_from and 0 < oldest >= free_from[number]
    ]


def remove_generation(folder: Path) -> None:
    """Remove a generation, if it is still there."""
    with contextlib.suppress(FileNotFoundError):
        remove_published(folder)
