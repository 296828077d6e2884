"""`refresh.max_staleness_steps` with `on_stale = "wait"`: never too old, and never stuck.

The real queue over a real journal; trainers and the miner are played under a clock of ticks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.datasets.generations.triplets import Lease
from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.datasets.runs.staleness import measured_bound, num_steps_past_limit, staleness_bound
from facequarry.miner.queue.serve import QueueSettings, TripletQueue, Wait
from tests.miner.generations import (
    BATCH,
    publish_checkpoint_folder,
    publish_manifest,
    queue_settings,
)


@pytest.fixture(scope="module", autouse=True)
def no_fsync() -> Iterator[None]:
    """What is simulated here never loses power, and a run flushes thousands of records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@dataclass
class Rank:
    """One rank's prefetch: `depth` batches ready and one in the maker's hand."""

    next_ask: int
    ready: list[Lease] = field(default_factory=list)
    wants_checkpoint: bool = False

    def ask_ahead(self, queue: TripletQueue, depth: int, last: int) -> None:
        while len(self.ready) <= depth and self.next_ask < last:
            answer = queue.ask(self.next_ask)
            self.wants_checkpoint = answer == Wait("stale")
            if isinstance(answer, Wait):
                return
            self.ready.append(answer)
            self.next_ask += 1


@dataclass
class FakeRun:
    """Trainers in lock step, a miner and the queue; one tick is the time of one step."""

    run: RunDir
    settings: QueueSettings
    every: int
    durations: Sequence[int]
    fails: Sequence[bool] = (False,)
    smalls: Sequence[bool] = (False,)
    world_size: int = 1
    deaths: Sequence[int] = ()
    """Ticks at which trainers and queue are killed and come back."""
    trainer: list[dict[str, object]] = field(default_factory=list)
    miner: list[dict[str, object]] = field(default_factory=list)
    """Events as the real ones write them, with ticks for seconds."""

    def play(self, steps: int, max_ticks: int) -> list[Lease]:
        """Return the lease that each step was trained on; of steps trained twice the last."""
        run, trained = self.run, dict[int, Lease]()
        self.queue = TripletQueue(run, self.settings, attempt=1)
        step, self.busy, self.tries, self.mined = 0, None, 0, -1
        self._checkpoint(0)
        ranks = [Rank(0) for _ in range(self.world_size)]
        for tick in range(max_ticks):
            self.tick = tick
            if tick in self.deaths:
                self.queue = TripletQueue(run, self.settings, attempt=2)
                step = run.checkpoint_steps()[-1]
                ranks = [Rank(step) for _ in range(self.world_size)]
            self._mine(tick)
            for rank in reversed(ranks):
                rank.ask_ahead(self.queue, self.settings.prefetch, steps)
            if all(rank.ready for rank in ranks):
                answers = [rank.ready.pop(0) for rank in ranks]
                assert all(answer == answers[0] and answer.step == step for answer in answers)
                assert trained.setdefault(step, answers[0]) == answers[0]
                self.trainer.append({"event": "step", "step": step, "time": tick + 0.5})
                step += 1
                if step == steps:
                    return [trained[s] for s in range(steps)]
                if step % self.every == 0:
                    self._checkpoint(step)
            elif ranks[0].wants_checkpoint and not ranks[0].ready:
                self._checkpoint(step)
        raise AssertionError(f"training stopped at step {step} of {steps}")

    def _checkpoint(self, step: int) -> None:
        if step not in self.run.checkpoint_steps():
            publish_checkpoint_folder(self.run, step)
            self.trainer.append({"event": "checkpoint", "step": step, "time": self.tick + 0.5})

    def _mine(self, tick: int) -> None:
        if self.busy is not None and tick >= self.busy[1]:
            has_failed = self.fails[self.tries % len(self.fails)]
            is_small = self.smalls[self.tries % len(self.smalls)]
            self.tries += 1
            number = len(self.run.generation_numbers())
            end = {"checkpoint_step": self.busy[0], "generation": number, "time": tick}
            self.miner.append({"event": "failed" if has_failed else "published", **end})
            if not has_failed:
                self.mined = self.busy[0]
                # The first one is served, or the run would end there.
                rows = BATCH - 1 if is_small and number else 5 * BATCH
                publish_manifest(self.run, number, mined_at_step=self.mined, rows=rows)
            self.busy = None
        newest = self.run.checkpoint_steps()[-1]
        if self.busy is None and newest > self.mined:
            self.busy = (newest, tick + self.durations[self.tries % len(self.durations)])
            begin = {"checkpoint_step": newest, "time": tick}
            self.miner.append({"event": "begin", **begin})

    busy: tuple[int, int] | None = None
    tick: int = 0


def main_staleness(run: RunDir, leases: Sequence[Lease]) -> list[int]:
    mined_at = {
        event["generation"]: event["mined_at_step"]
        for event in read_events(run.events, "queue")
        if event["event"] == "switch"
    }
    return [lease.step - mined_at[lease.generation] for lease in leases]


@settings(max_examples=40, deadline=None)
@given(
    every=st.integers(1, 12),
    slack=st.integers(0, 8),
    prefetch=st.integers(1, 4),
    durations=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    fails=st.lists(st.booleans(), max_size=3),
    carry_over=st.sampled_from([0.0, 0.5]),
    world_size=st.sampled_from([1, 2]),
    blocks=st.booleans(),
    deaths=st.lists(st.integers(1, 80), max_size=3),
)
def test_main_rows_are_never_older_than_the_limit_and_training_goes_on(
    every: int,
    slack: int,
    prefetch: int,
    durations: list[int],
    fails: list[bool],
    carry_over: float,
    world_size: int,
    blocks: bool,
    deaths: list[int],
) -> None:
    limit = every + prefetch + slack
    with TemporaryDirectory() as folder:
        fake = FakeRun(
            RunDir(Path(folder)),
            queue_settings(
                prefetch=prefetch,
                carry_over=carry_over,
                max_staleness_steps=limit,
                block_every=every if blocks else None,
            ),
            every,
            durations,
            fails=[*fails, False],
            world_size=world_size,
            deaths=deaths,
        )
        leases = fake.play(40, max_ticks=20_000)
        staleness = main_staleness(fake.run, leases)
    assert max(staleness) <= limit
    bound = staleness_bound(every, 10_000, prefetch=prefetch, limit=limit)
    assert max(staleness) < bound


@settings(max_examples=20, deadline=None)
@given(
    every=st.integers(1, 8),
    smalls=st.lists(st.booleans(), min_size=1, max_size=4),
    durations=st.lists(st.integers(0, 20), min_size=1, max_size=3),
)
def test_training_goes_on_where_no_younger_generation_can_be_served(
    every: int, smalls: list[bool], durations: list[int]
) -> None:
    with TemporaryDirectory() as folder:
        run = RunDir(Path(folder))
        fake = FakeRun(
            run, queue_settings(max_staleness_steps=every + 2), every, durations, smalls=smalls
        )
        assert len(fake.play(40, max_ticks=20_000)) == 40


@settings(max_examples=30, deadline=None)
@given(
    every=st.integers(1, 10),
    smalls=st.lists(st.booleans(), min_size=1, max_size=4),
    fails=st.lists(st.booleans(), max_size=3),
    durations=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    prefetch=st.integers(1, 4),
    carry_over=st.sampled_from([0.0, 0.5]),
    blocks=st.booleans(),
    waits=st.booleans(),
)
def test_the_measured_bound_holds_where_generations_are_passed_over(
    every: int,
    smalls: list[bool],
    fails: list[bool],
    durations: list[int],
    prefetch: int,
    carry_over: float,
    blocks: bool,
    waits: bool,
) -> None:
    limit = every + prefetch if waits else None
    with TemporaryDirectory() as folder:
        run = RunDir(Path(folder))
        asked = queue_settings(
            prefetch=prefetch,
            carry_over=carry_over,
            block_every=every if blocks else None,
            max_staleness_steps=limit,
        )
        fake = FakeRun(run, asked, every, durations, fails=[*fails, False], smalls=smalls)
        leases = fake.play(60, max_ticks=20_000)
        queue = read_events(run.events, "queue")
    mined_at = {e["generation"]: e["mined_at_step"] for e in queue if e["event"] == "switch"}
    oldest = [lease.step - min(mined_at[r.generation] for r in lease.ranges) for lease in leases]
    bound = measured_bound(
        fake.trainer,
        fake.miner,
        queue,
        every=every,
        prefetch=prefetch,
        is_carried=carry_over > 0,
        is_blocking=blocks,
        limit=limit,
    )
    assert max(oldest) < bound


def test_a_generation_that_is_passed_over_ends_the_wait_and_the_shorter_bounds_with_it(
    tmp_path: Path,
) -> None:
    run = RunDir(tmp_path)
    asked = queue_settings(block_every=5, max_staleness_steps=7)
    fake = FakeRun(run, asked, 5, [1], smalls=[False, True, True])
    staleness = main_staleness(run, fake.play(30, max_ticks=2_000))
    assert max(staleness) > 7

    def bound(queue: Sequence[dict[str, object]]) -> int:
        return measured_bound(
            fake.trainer,
            fake.miner,
            queue,
            every=5,
            prefetch=2,
            is_carried=False,
            is_blocking=True,
            limit=7,
        )

    queue = read_events(run.events, "queue")
    assert bound([event for event in queue if event["event"] != "skipped"]) == 5
    assert bound(queue) > max(staleness)


@settings(max_examples=25, deadline=None)
@given(
    every=st.integers(1, 10),
    durations=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    prefetch=st.integers(1, 3),
)
def test_carried_rows_are_at_most_twice_as_old_and_one_step(
    every: int, durations: list[int], prefetch: int
) -> None:
    limit = every + prefetch
    with TemporaryDirectory() as folder:
        run = RunDir(Path(folder))
        asked = queue_settings(carry_over=0.5, prefetch=prefetch, max_staleness_steps=limit)
        leases = FakeRun(run, asked, every, durations).play(60, max_ticks=20_000)
        mined_at = {
            e["generation"]: e["mined_at_step"]
            for e in read_events(run.events, "queue")
            if e["event"] == "switch"
        }
    oldest = [lease.step - min(mined_at[r.generation] for r in lease.ranges) for lease in leases]
    bound = staleness_bound(every, 10_000, prefetch=prefetch, is_carried=True, limit=limit)
    assert max(oldest) < bound == 2 * limit + 2


def test_without_waiting_the_same_training_goes_past_the_limit_and_is_counted(
    tmp_path: Path,
) -> None:
    run = RunDir(tmp_path)
    leases = FakeRun(run, queue_settings(), every=5, durations=[30]).play(60, max_ticks=200)
    staleness = main_staleness(run, leases)
    assert max(staleness) > 7
    steps = [
        {"event": "step", "attempt": 1, "step": lease.step, "generation": lease.generation}
        for lease in leases
    ]
    queue = read_events(run.events, "queue")
    assert num_steps_past_limit(steps, queue, 7) == sum(s > 7 for s in staleness)
    assert num_steps_past_limit(steps, queue, None) == 0


def test_a_waiting_ask_says_so_once_in_the_log_and_grants_nothing(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    publish_manifest(run, 0, mined_at_step=0, rows=40)
    queue = TripletQueue(run, queue_settings(max_staleness_steps=6, prefetch=4), attempt=1)
    assert all(isinstance(queue.ask(step), Lease) for step in range(7))  # the block is cut at 6
    records = run.queue_journal.read_bytes()
    assert [queue.ask(7), queue.ask(7)] == [Wait("stale"), Wait("stale")]
    assert run.queue_journal.read_bytes() == records
    waits = [e for e in read_events(run.events, "queue") if e["event"] == "wait"]
    assert [(e["step"], e["reason"]) for e in waits] == [(7, "stale")]
    publish_manifest(run, 1, mined_at_step=7, rows=40)
    answer = queue.ask(7)
    assert isinstance(answer, Lease) and answer.generation == 1


def test_random_triplets_have_no_age(tmp_path: Path) -> None:
    queue = TripletQueue(
        RunDir(tmp_path),
        queue_settings(max_staleness_steps=3, random_until_mined=True),
        attempt=1,
    )
    assert all(isinstance(queue.ask(step), Lease) for step in range(20))


@pytest.mark.parametrize("duration", [0, 3, 50])
def test_the_limit_holds_at_its_smallest(tmp_path: Path, duration: int) -> None:
    run = RunDir(tmp_path)
    fake = FakeRun(run, queue_settings(max_staleness_steps=2, prefetch=1), 1, [duration])
    assert max(main_staleness(run, fake.play(20, max_ticks=2_000))) <= 2
