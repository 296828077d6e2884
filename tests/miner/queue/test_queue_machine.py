"""Anything that can happen to a queue, in any order: the real journal against a plain model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from facequarry.datasets.generations.triplets import GenerationChanged, Lease, RowRange
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.journal import Journal, known_generations, next_generation_number
from facequarry.miner.queue.queue import QueueMismatch
from facequarry.miner.queue.serve import QueueSettings, TripletQueue
from tests.miner.generations import publish_manifest

BATCHES = (4, 6, 12)
WORLD_SIZES = (1, 2, 3, 4, 6)


def rows_of(ranges: tuple[RowRange, ...]) -> list[tuple[int | None, int]]:
    return [(r.generation, row) for r in ranges for row in range(r.start, r.stop)]


class QueueMachine(RuleBasedStateMachine):
    """A queue that is asked, given generations, killed and damaged."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self.run = RunDir(Path(self._folder.name))
        self.rows: dict[int | None, int] = {}
        self.answers: dict[int, Lease] = {}
        self.attempt = 0
        self.mined_at = 0

    def teardown(self) -> None:
        self._folder.cleanup()

    @initialize(
        batch=st.sampled_from(BATCHES),
        carry_over=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        prefetch=st.integers(1, 4),
        random=st.booleans(),
    )
    def begin(self, batch: int, carry_over: float, prefetch: int, random: bool) -> None:
        self.settings = QueueSettings(
            batch=batch,
            carry_over=carry_over,
            seed=0,
            prefetch=prefetch,
            random_until_mined=random,
            block_every=None,
        )
        if not random:
            self.publish(extra_rows=3)
        self.restart()

    @rule()
    def restart(self) -> None:
        self.attempt += 1
        self.queue = TripletQueue(self.run, self.settings, attempt=self.attempt)

    @rule(torn=st.sampled_from(['{"record": "granted", "thro', '{"record": "switch", "gen', "x"]))
    def die_while_writing(self, torn: str) -> None:
        with self.run.queue_journal.open("a") as file:
            file.write(torn)
        self.restart()

    @rule(extra_rows=st.integers(0, 40))
    def publish(self, extra_rows: int) -> None:
        self._publish(self.settings.batch + extra_rows)

    @rule()
    def publish_one_that_is_too_small(self) -> None:
        self._publish(self.settings.batch - 1)

    @rule()
    def publish_one_that_is_damaged(self) -> None:
        number = next_generation_number(self.run)
        folder = self.run.generation(number)
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{ no json")

    def _publish(self, rows: int) -> None:
        number = next_generation_number(self.run)
        assert number not in self.rows
        self.rows[number] = rows
        self.mined_at += 1
        publish_manifest(self.run, number, mined_at_step=self.mined_at, rows=rows)

    @rule(steps=st.integers(1, 9))
    def ask_on(self, steps: int) -> None:
        for step in range(len(self.answers), len(self.answers) + steps):
            answer = self.queue.ask(step)
            assert isinstance(answer, Lease)
            self.answers[step] = answer

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        step = data.draw(st.integers(0, len(self.answers) - 1))
        assert self.queue.ask(step) == self.answers[step]

    @precondition(lambda self: self.answers)
    @rule(changed=st.sampled_from(["batch", "carry_over", "seed"]))
    def come_back_with_other_settings(self, changed: str) -> None:
        told = {
            "batch": self.settings.batch,
            "carry_over": self.settings.carry_over,
            "seed": self.settings.seed,
        }
        other = {"batch": 1, "carry_over": 0.125, "seed": 7}[changed]
        with pytest.raises(QueueMismatch, match=changed):
            Journal(self.run.queue_journal, **(told | {changed: other}))  # type: ignore[arg-type]

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def replace_a_generation_that_was_granted(self, data: st.DataObject) -> None:
        step = data.draw(st.sampled_from(sorted(self.answers)))
        number = self.answers[step].generation
        rows_of_it = self.settings.batch - round(self.settings.carry_over * self.settings.batch)
        if number is None or not rows_of_it:
            return  # what is not served cannot be served otherwise
        manifest = self.run.generation(number) / "manifest.json"
        before = manifest.read_bytes()
        manifest.write_bytes(before.replace(b'"sha256": "', b'"sha256": "other-'))
        with pytest.raises(GenerationChanged, match="holds other rows"):
            self.queue.ask(step)
        manifest.unlink()
        with pytest.raises(GenerationChanged, match="is gone"):
            self.queue.ask(step)
        assert next_generation_number(self.run) > max(known_generations(self.run))
        manifest.write_bytes(before)
        assert self.queue.ask(step) == self.answers[step]

    @invariant()
    def every_row_of_a_generation_is_served_in_order_from_row_0(self) -> None:
        """Main rows first, then those that are carried, which go on where the main rows stopped."""
        served: dict[int | None, list[int]] = {}
        for step in range(len(self.answers)):
            for generation, row in rows_of(self.answers[step].ranges):
                if generation is not None:
                    served.setdefault(generation, []).append(row)
        for generation, rows in served.items():
            assert rows == [i % self.rows[generation] for i in range(len(rows))]

    @invariant()
    def served_and_repeats_add_up(self) -> None:
        times: Counter[tuple[int | None, int]] = Counter()
        for answer in self.answers.values():
            if answer.generation is not None:
                times.update(rows_of(answer.ranges))
        repeats = sum(answer.repeats for answer in self.answers.values())
        assert sum(times.values()) == len(times) + repeats

    @invariant()
    def parts_of_ranks_join_to_the_whole(self) -> None:
        for step in list(self.answers)[-3:]:
            answer = self.answers[step]
            assert answer.num_rows == self.settings.batch
            for world_size in WORLD_SIZES:
                if self.settings.batch % world_size:
                    with pytest.raises(ValueError, match="does not divide"):
                        answer.part(0, world_size)
                    continue
                parts = [answer.part(rank, world_size) for rank in range(world_size)]
                joined = [row for part in parts for row in rows_of(part)]
                assert joined == rows_of(answer.ranges)


@pytest.fixture(scope="module", autouse=True)
def no_fsync() -> Iterator[None]:
    """What is simulated here never loses power, and a machine flushes thousands of records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
