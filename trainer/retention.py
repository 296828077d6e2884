"""Which checkpoints stay: step 0, the newest few, and those that a live generation names."""

from __future__ import annotations

import shutil

from datasets.run_dir import RunDir
from datasets.triplets import read_generation_manifest

# The generation being served and the one before it, whose rows may still be carried over.
LIVE_GENERATIONS = 2


def surplus_steps(steps: list[int], mined_at_steps: list[int], *, keep: int) -> list[int]:
    """Return the checkpoint steps that may go.

    Args:
        steps: published checkpoint steps, ascending.
        mined_at_steps: `mined_at_step` of every generation, in order of their numbers.
        keep: newest checkpoints that stay.
    """
    # Step 0 stays as the untrained network that results are compared with.
    kept = {0, *steps[-keep:], *mined_at_steps[-LIVE_GENERATIONS:]}
    return [step for step in steps if step not in kept]


def prune_checkpoints(run: RunDir, *, keep: int) -> list[int]:
    """Delete the checkpoints that nothing needs; return their steps."""
    mined = [
        read_generation_manifest(run.generation(number))["mined_at_step"]
        for number in run.generation_numbers()[-LIVE_GENERATIONS:]
    ]
    gone = surplus_steps(run.checkpoint_steps(), mined, keep=keep)
    for step in gone:
        shutil.rmtree(run.checkpoint(step))
    return gone
