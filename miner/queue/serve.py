"""The queue at work: takes published generations, grants steps, answers with leases.

Plain Python over the journal and the generations folder; the Ray actor around it is in
`queue_actor.py`.
Nobody tells it of a new generation: what is published is on disk, so a restarted queue knows all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.publish import MANIFEST
from facequarry.datasets.generations.triplets import (
    GenerationChanged,
    Lease,
    check_generation,
    generation_digest,
    read_generation_manifest,
)
from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.journal import Journal, checkpoint_before
from facequarry.miner.queue.queue import Switch, add_grant, lease_at
from facequarry.miner.queue.retire import deletable_generations, remove_generation
from facequarry.miner.queue.too_small import EmptyGeneration, why_empty


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
        max_staleness_steps: a step waits while its main rows would be older. None: it never does.
        keep_generations: newest generations that are never deleted. None: none is.
    """

    batch: int
    carry_over: float
    seed: int
    prefetch: int
    random_until_mined: bool
    block_every: int | None
    max_staleness_steps: int | None = None
    keep_generations: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """The answer to an ask that has to wait; nothing was granted.

    Attributes:
        reason: what is waited for. `no generation`: the first one. `blocking refresh`: the one of
            the checkpoint at the step. `stale`: any that is young enough, which takes a checkpoint
            newer than those that were mined.
    """

    reason: Literal["no generation", "blocking refresh", "stale"]


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
        self._log.write("start", granted_through=self._journal.state.granted_through)
        self._log_what_was_lost()
        self._mined_through = max(
            (s.mined_at_step for s in self._journal.state.switches), default=-1
        )
        self._seen: set[int] = set()
        self._checked: dict[int, tuple[int, ...]] = {}
        self._waiting: tuple[int, Wait] | None = None
        for number in self._journal.deleted:
            self._remove(number)

    def ask(self, step: int) -> Lease | Wait:
        """Return the rows of `step`, or why it has to wait. A waiting ask grants nothing.

        Raises:
            EmptyGeneration: there is nothing to serve and waiting would not help.
            GenerationChanged: a generation that was granted is gone, or holds other rows.
            CorruptGeneration: its manifest is damaged.
        """
        if step <= self._journal.state.granted_through:
            lease = lease_at(self._journal.state, step)
            self._check_rows(lease)
            return lease
        if self._take_new_generations():
            self._delete_old_generations()
        wait = self._why_wait(step)
        if wait is not None:
            self._refuse_hopeless_wait()
            self._log_wait(step, wait)
            return wait
        last = self._last_of_block(step)
        lease = lease_at(add_grant(self._journal.state, last), step)
        self._check_rows(lease)
        self._journal.grant(last)
        return lease

    def _why_wait(self, step: int) -> Wait | None:
        state = self._journal.state
        if state.current is None:
            if not self._settings.random_until_mined:
                return Wait("no generation")
            self._switch(Switch(None, state.granted_through + 1, 0, 0))
        every = self._settings.block_every
        if every is not None and self._mined_through < step // every * every:
            return Wait("blocking refresh")
        young_until = self._young_until()
        return Wait("stale") if young_until is not None and step > young_until else None

    def _young_until(self) -> int | None:
        """Return the last step that need not wait for a younger generation; None: any step.

        A younger one that could not be served counts as well: waiting would bring the same again.
        """
        limit, current = self._settings.max_staleness_steps, self._journal.state.current
        if limit is None or current is None or current.generation is None:
            return None
        return max(current.mined_at_step, self._mined_through) + limit

    def _last_of_block(self, step: int) -> int:
        """The grant's last step: a block of prefetch steps, cut where an ask would have to wait."""
        last = step + self._settings.prefetch - 1
        if (every := self._settings.block_every) is not None:
            last = min(last, (step // every + 1) * every - 1)
        young_until = self._young_until()
        return last if young_until is None else min(last, young_until)

    def _refuse_hopeless_wait(self) -> None:
        """End a wait that nothing can end: no row was served, and what was mined is too small."""
        skipped = self._journal.skipped
        if self._journal.state.current is not None or not skipped:
            return
        number = max(skipped)
        try:
            manifest = read_generation_manifest(self._run.generation(number))
        except (OSError, BadInput):
            return  # it was skipped for that, and the next refresh takes its place
        raise EmptyGeneration(why_empty(manifest, skipped[number]))

    def _check_rows(self, lease: Lease) -> None:
        """Refuse to answer with rows other than those that were granted."""
        for number, digest in {(r.generation, r.digest) for r in lease.ranges}:
            if number is None:
                continue
            if number in self._journal.deleted:
                raise GenerationChanged(
                    f"generation {number} serves step {lease.step}, and it was deleted when no "
                    "kept checkpoint could go back that far (refresh.keep_generations); start a "
                    "new run with --name"
                )
            folder = self._run.generation(number)
            looks = _looks(folder)
            if looks is None or self._checked.get(number) != looks:
                self._check_generation(number, digest)
                self._checked[number] = looks or ()

    def _check_generation(self, number: int, digest: str | None) -> None:
        """Check a generation against the newest record of its rows."""
        switch = next(s for s in reversed(self._journal.state.switches) if s.generation == number)
        check_generation(
            self._run.generation(number),
            digest,
            mined_at_step=switch.mined_at_step,
            back_to=checkpoint_before(self._run, switch),
        )

    def _take_new_generations(self) -> bool:
        """Switch to the newest published generation, pass over the others; say if any was new."""
        fresh = [n for n in self._run.generation_numbers() if n not in self._seen]
        served = {switch.generation for switch in self._journal.state.switches}
        for number in reversed(fresh):
            if number not in served:
                self._take(number)
            self._seen.add(number)
        return bool(fresh)

    def _take(self, number: int) -> None:
        """Switch to a generation that was never served, or record why not."""
        try:
            manifest = read_generation_manifest(self._run.generation(number))
            if manifest["generation"] != number:
                raise BadInput(f"its manifest says generation {manifest['generation']}")
        except (OSError, BadInput) as error:  # no row of it was granted: training needs it not
            self._skip(number, f"it cannot be read: {error}")
            return
        mined_at_step, rows = manifest["mined_at_step"], manifest["rows"]
        self._mined_through = max(self._mined_through, mined_at_step)
        newest = self._journal.state.current
        if newest and newest.generation is not None and number < newest.generation:
            self._skip(number, f"generation {newest.generation} is newer")
        elif newest and mined_at_step < newest.mined_at_step:
            self._skip(
                number,
                f"mined at step {mined_at_step}, generation {newest.generation} at step "
                f"{newest.mined_at_step}",
            )
        elif rows < self._settings.batch:
            self._skip(number, f"{rows} rows, one batch is {self._settings.batch}")
        elif number not in self._journal.skipped:
            first_step = self._journal.state.granted_through + 1
            digest = generation_digest(manifest)
            self._switch(Switch(number, first_step, rows, mined_at_step, digest))

    def _switch(self, switch: Switch) -> None:
        self._journal.switch(switch)
        self._log_switch(switch)

    def _skip(self, number: int, reason: str) -> None:
        if number not in self._journal.skipped:
            self._journal.skip(number, reason)
            self._log_skip(number, reason)

    def _delete_old_generations(self) -> None:
        if self._settings.keep_generations is None:
            return
        for number in deletable_generations(
            self._journal.state,
            passed_over=self._journal.skipped,
            published=self._run.generation_numbers(),
            checkpoint_steps=self._run.checkpoint_steps(),
            keep=self._settings.keep_generations,
        ):
            self._journal.delete(number)
            self._log_deletion(number)
            self._remove(number)

    def _remove(self, number: int) -> None:
        """Remove what is left of a deleted generation; what cannot go now is tried again later."""
        try:
            remove_generation(self._run.generation(number))
        except OSError as error:
            self._log.write("not deleted", generation=number, reason=str(error))

    def _log_wait(self, step: int, wait: Wait) -> None:
        if self._waiting != (step, wait):  # an ask is repeated until it is answered
            self._waiting = (step, wait)
            self._log.write("wait", step=step, reason=wait.reason)

    def _log_switch(self, switch: Switch) -> None:
        self._log.write(
            "switch",
            step=switch.first_step,
            generation=switch.generation,
            first_step=switch.first_step,
            rows=switch.rows,
            mined_at_step=switch.mined_at_step,
        )

    def _log_skip(self, number: int, reason: str) -> None:
        self._log.write("skipped", generation=number, reason=reason)

    def _log_deletion(self, number: int) -> None:
        self._log.write("deleted", generation=number)

    def _log_what_was_lost(self) -> None:
        """Log what a killed queue had journaled and not yet logged."""
        switches: set[tuple[int, int | None]] = set()
        # With their reason: the number of a generation that was rewound may have been given again.
        skipped: set[tuple[int, str]] = set()
        deleted: set[int] = set()
        for event in read_events(self._run.events, "queue"):
            match event["event"]:
                case "rewound":
                    switches = {(step, n) for step, n in switches if step < event["step"]}
                case "switch":
                    switches.add((event["step"], event["generation"]))
                case "skipped":
                    skipped.add((event["generation"], event["reason"]))
                case "deleted":
                    deleted.add(event["generation"])
        for switch in self._journal.state.switches:
            if (switch.first_step, switch.generation) not in switches:
                self._log_switch(switch)
        for number, reason in self._journal.skipped.items():
            if (number, reason) not in skipped:
                self._log_skip(number, reason)
        for number in sorted(self._journal.deleted - deleted):
            self._log_deletion(number)


def _looks(folder: Path) -> tuple[int, ...] | None:
    """Return what changes when a manifest is replaced; None where there is none."""
    try:
        stat = (folder / MANIFEST).stat()
    except OSError:
        return None
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
