"""Which checkpoints stay: step 0, the newest few, and those that mining names."""

from __future__ import annotations

import shutil

from datasets.events import read_events
from datasets.run_dir import RunDir
from datasets.triplets import read_generation_manifest

# The generation being served and the one before it, whose rows may still be carried over.
LIVE_GENERATIONS = 2


def surplus_steps(steps: list[int], named: set[int], *, keep: int) -> list[int]:
    """Return the checkpoint steps that may go.

    Args:
        steps: published checkpoint steps, ascending.
        named: steps that a live generation or a refresh in hand names.
        keep: newest checkpoints that stay.
    """
    # Step 0 stays as the untrained network that results are compared with.
    kept = {0, *steps[-keep:], *named}
    return [step for step in steps if step not in kept]


def prune_checkpoints(run: RunDir, *, keep: int) -> list[int]:
    """Delete the checkpoints that nothing needs; return their steps."""
    named = {
        int(read_generation_manifest(run.generation(number))["mined_at_step"])
        for number in run.generation_numbers()[-LIVE_GENERATIONS:]
    }
    # A refresh in hand logged which checkpoint it began with.
    begun = [
        e["checkpoint_step"] for e in read_events(run.events, "miner") if e["event"] == "begin"
    ]
    gone = surplus_steps(run.checkpoint_steps(), named | set(begun[-1:]), keep=keep)
    for step in gone:
        shutil.rmtree(run.checkpoint(step))
    return gone
