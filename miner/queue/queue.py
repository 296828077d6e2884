"""The triplet queue: which rows each step gets, as arithmetic over a journal.

Of the journal's records three kinds decide which rows a step gets, each durable before an answer
depends on it:

    open      the batch, carry_over and seed that all of it was granted with
    switch    from this step on rows come from this generation (or none: random triplets)
    granted   answers up to this step may have been given

`lease_at` is a pure function of those records, so an answer never changes: not for a second ask,
another rank, a restarted queue or a restarted trainer. A new generation takes over at the step
after the last granted one. Arithmetic: DESIGN section 5, restated in docs/staleness.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.generations.triplets import Lease, RowRange


class QueueMismatch(BadInput):
    """A journal was granted with other settings than the run has now."""


@dataclass(frozen=True, slots=True)
class Switch:
    """From `first_step` on, main rows come from `generation`.

    Attributes:
        generation: its number; None for random triplets.
        first_step: the first step served from it.
        rows: rows of the generation; 0 for random triplets.
        mined_at_step: its checkpoint's step; 0 for random triplets.
        digest: of its rows (`generation_digest`); None for random triplets, and in journals that
            were written before there was one.
    """

    generation: int | None
    first_step: int
    rows: int
    mined_at_step: int
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class QueueState:
    """Everything the journal says.

    Attributes:
        batch: B, triplets a step over all ranks.
        carry_over: share of a batch taken from the generation before, 0 to 1.
        seed: the run's seed, which random triplets depend on.
        switches: in order; each one's first_step is above the last granted step at its time.
        granted_through: the last step that may have been answered; -1 before the first.
    """

    batch: int
    carry_over: float
    seed: int
    switches: tuple[Switch, ...] = ()
    granted_through: int = -1

    @property
    def num_carried(self) -> int:
        """C, rows of a batch that come from the generation before."""
        return round(self.carry_over * self.batch)

    @property
    def current(self) -> Switch | None:
        """The newest switch; None before the first."""
        return self.switches[-1] if self.switches else None


def add_switch(state: QueueState, switch: Switch) -> QueueState:
    """Return the state with one more switch.

    Raises:
        BadInput: it begins at a step that was granted, is out of order or has too few rows.
    """
    if switch.first_step <= state.granted_through:
        raise BadInput(
            f"step {switch.first_step} is granted already (through {state.granted_through})"
        )
    if state.current and switch.first_step < state.current.first_step:
        raise BadInput(f"switch at step {switch.first_step} is before the last one")
    if switch.generation is not None and switch.rows < state.batch:
        raise BadInput(
            f"generation {switch.generation} has {switch.rows} rows, fewer than one batch of "
            f"{state.batch}"
        )
    return replace(state, switches=(*state.switches, switch))


def add_grant(state: QueueState, through_step: int) -> QueueState:
    """Return the state with answers granted through a step; earlier grants stay."""
    return replace(state, granted_through=max(state.granted_through, through_step))


def lease_at(state: QueueState, step: int) -> Lease:
    """Return the rows of a granted step.

    Raises:
        BadInput: the step is not granted, or no switch covers it.
    """
    if not 0 <= step <= state.granted_through:
        raise BadInput(f"step {step} is not granted (through {state.granted_through})")
    position = bisect_right([switch.first_step for switch in state.switches], step) - 1
    if position < 0:
        raise BadInput(f"no generation serves step {step}")
    switch = state.switches[position]
    if switch.generation is None:
        return Lease(step, None, (RowRange(None, 0, state.batch),))
    num_carried = _num_carried(state, position)
    num_main = state.batch - num_carried
    ago = step - switch.first_step
    ranges = [*_wrapped(switch, ago * num_main, num_main)]
    repeats = min(num_main, max(0, (ago + 1) * num_main - switch.rows))
    if num_carried:
        before = state.switches[position - 1]
        # Where the generation before stopped: its own main rows a step, over the steps it served.
        per_step = state.batch - _num_carried(state, position - 1)
        stopped = (switch.first_step - before.first_step) * per_step
        ranges += _wrapped(before, stopped + ago * num_carried, num_carried)
        repeats += min(num_carried, max(0, stopped + (ago + 1) * num_carried - before.rows))
    return Lease(step, switch.generation, tuple(ranges), repeats)


def _num_carried(state: QueueState, position: int) -> int:
    """C under the switch at `position`: 0 under the first generation, else round(carry_over B)."""
    if position == 0 or state.switches[position].generation is None:
        return 0
    return 0 if state.switches[position - 1].generation is None else state.num_carried


def _wrapped(switch: Switch, start: int, count: int) -> Iterator[RowRange]:
    """Yield `count` rows from `start` on, modulo the generation's rows."""
    while count:
        first = start % switch.rows
        length = min(count, switch.rows - first)
        yield RowRange(switch.generation, first, first + length, switch.digest)
        start, count = start + length, count - length
