"""The queue at work: takes published generations, grants steps, answers with leases.

Plain Python over the journal and the generations folder; the Ray actor around it is in `actors.py`.
Nobody tells it of a new generation: what is published is on disk, so a restarted queue knows all.
"""

from __future__ import annotations

from dataclasses import dataclass

from datasets.events import EventLog
from datasets.run_dir import RunDir
from datasets.triplets import Lease, read_generation_manifest
from miner.journal import Journal
from miner.queue import Switch, lease_at


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSettings:
    """What the queue is told.

    Attributes:
        batch: B, triplets a step over all ranks.
        carry_over: share of a batch from the generation before, 0 to 1.
        seed: the run's seed.
        prefetch: steps granted at a time.
        random_until_mined: serve random triplets before the first generation (else the ask waits).
        block_every: N for blocking refresh: the steps from kN on wait for a generation mined at
            step kN or later. None: training never waits for a refresh.
    """

    batch: int
    carry_over: float
    seed: int
    prefetch: int
    random_until_mined: bool
    block_every: int | None


class EmptyGeneration(ValueError):
    """The first generation has fewer rows than a batch, so training could never begin."""


class TripletQueue:
    """Answers `ask(step)`; the journal makes every answer permanent."""

    def __init__(self, run: RunDir, settings: QueueSettings, *, attempt: int) -> None:
        self._run = run
        self._settings = settings
        self._journal = Journal(
            run.queue_journal,
            batch=settings.batch,
            carry_over=settings.carry_over,
            seed=settings.seed,
        )
        self._log = EventLog(run.events, "queue", attempt=attempt)
        self._mined_through = -1
        self._seen: set[int] = set()

    def ask(self, step: int) -> Lease | None:
        """Return the rows of `step`, or None while it has to wait. A waiting ask grants nothing.

        Raises:
            EmptyGeneration: there is nothing to serve and waiting would not help.
        """
        if step > self._journal.state.granted_through:
            self._take_newest_generation()
            if not self._may_grant(step):
                self._refuse_hopeless_wait()
                return None
            self._journal.grant(self._last_of_block(step))
        return lease_at(self._journal.state, step)

    def _may_grant(self, step: int) -> bool:
        state = self._journal.state
        if state.current is None:
            if not self._settings.random_until_mined:
                return False
            self._switch(Switch(None, state.granted_through + 1, 0, 0))
        every = self._settings.block_every
        return every is None or self._mined_through >= step // every * every

    def _refuse_hopeless_wait(self) -> None:
        """End a wait that nothing can end: no row was served, and what was mined is too small."""
        skipped = self._journal.skipped
        if self._journal.state.current is None and skipped:
            number = max(skipped)
            stats = read_generation_manifest(self._run.generation(number)).get("stats", {})
            counts = ", ".join(
                f"{name} {stats[name]}"
                for name in ("pairs", "semi_hard", "band_empty", "beyond_search", "suspect")
                if name in stats
            )
            raise EmptyGeneration(
                f"generation {number} cannot be served: {skipped[number]} ({counts}); lower "
                "trainer.batch, widen miner.margin, add miner.fallback, or set "
                "refresh.on_empty = random"
            )

    def _last_of_block(self, step: int) -> int:
        """The grant's last step: a block of prefetch steps, cut where a blocking refresh is due."""
        last = step + self._settings.prefetch - 1
        every = self._settings.block_every
        return last if every is None else min(last, (step // every + 1) * every - 1)

    def _take_newest_generation(self) -> None:
        """Switch to the newest published generation; record those that are passed over."""
        fresh = [n for n in self._run.generation_numbers() if n not in self._seen]
        state = self._journal.state
        served = {switch.generation for switch in state.switches}
        for number in reversed(fresh):
            self._seen.add(number)
            manifest = read_generation_manifest(self._run.generation(number))
            self._mined_through = max(self._mined_through, manifest["mined_at_step"])
            if number in served or number in self._journal.skipped:
                continue
            newest = self._journal.state.current
            if newest and newest.generation is not None and number < newest.generation:
                self._skip(number, f"generation {newest.generation} is newer")
            elif newest and manifest["mined_at_step"] < newest.mined_at_step:
                self._skip(
                    number,
                    f"mined at step {manifest['mined_at_step']}, generation {newest.generation} "
                    f"at step {newest.mined_at_step}",
                )
            elif manifest["rows"] < self._settings.batch:
                self._skip(number, f"{manifest['rows']} rows, one batch is {self._settings.batch}")
            else:
                self._switch(
                    Switch(
                        generation=number,
                        first_step=state.granted_through + 1,
                        rows=manifest["rows"],
                        mined_at_step=manifest["mined_at_step"],
                    )
                )

    def _switch(self, switch: Switch) -> None:
        self._journal.switch(switch)
        self._log.write(
            "switch",
            step=switch.first_step,
            generation=switch.generation,
            first_step=switch.first_step,
            rows=switch.rows,
            mined_at_step=switch.mined_at_step,
        )

    def _skip(self, number: int, reason: str) -> None:
        self._journal.skip(number, reason)
        self._log.write("skipped", generation=number, reason=reason)
