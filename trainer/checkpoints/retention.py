"""Which checkpoints stay: step 0, the newest few, and those that mining names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.publish import remove_published
from facequarry.datasets.generations.triplets import read_generation_manifest
from facequarry.datasets.runs.events import last_attempt_by_step, read_events
from facequarry.datasets.runs.run_dir import RunDir

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


def prune_checkpoints(
    run: RunDir, *, keep: int, announce: Callable[[list[int]], object] = list
) -> list[int]:
    """Delete the checkpoints that nothing needs; return their steps.

    Args:
        run: the run directory.
        keep: newest checkpoints that stay.
        announce: told of the steps before the first of them goes, so that the log names what a
            killed trainer did not come to delete, and never misses what it did.
    """
    # A refresh in hand logged which checkpoint it began with.
    begun = [
        e["checkpoint_step"] for e in read_events(run.events, "miner") if e["event"] == "begin"
    ]
    named = _newest_mined(run) | _live_mined(run) | set(begun[-1:])
    gone = surplus_steps(run.checkpoint_steps(), named, keep=keep)
    announce(gone)
    for step in gone:
        remove_published(run.checkpoint(step))
    return gone


def _newest_mined(run: RunDir) -> set[int]:
    """Return the checkpoints of the newest generations; damaged ones are passed over."""
    steps = set()
    for number in run.generation_numbers()[-LIVE_GENERATIONS:]:
        with contextlib.suppress(OSError, BadInput):  # the queue records it and why
            steps.add(int(read_generation_manifest(run.generation(number))["mined_at_step"]))
    return steps


def _live_mined(run: RunDir) -> set[int]:
    """Return the checkpoints of the generations being served; newer ones may be passed over."""
    switches = last_attempt_by_step(read_events(run.events, "queue"), "switch")
    live = [e for e in switches if e["generation"] is not None][-LIVE_GENERATIONS:]
    return {int(event["mined_at_step"]) for event in live}
