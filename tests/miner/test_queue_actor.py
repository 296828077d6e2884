from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

import facequarry.miner.queue_actor
from facequarry.datasets.disk.lock import LockHeld, WriterLock
from facequarry.datasets.generations.triplets import Lease
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.journal import CorruptJournal
from facequarry.miner.queue.serve import QueueSettings, Wait
from facequarry.miner.queue_actor import QueueActor
from tests.miner.generations import publish

SETTINGS = QueueSettings(
    batch=4, carry_over=0.0, seed=0, prefetch=2, random_until_mined=False, block_every=None
)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    publish(run, 0, mined_at_step=0)
    return run


def die(actor: QueueActor) -> None:
    """Do what the kernel does when the actor's process ends."""
    actor._lock.__exit__(None, None, None)


def test_a_queue_waits_for_the_one_before_to_die_and_reads_its_last_grant(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = QueueActor(run, SETTINGS, 1)
    answers: list[Lease | Wait] = []

    def answer_and_die(_: float) -> None:
        answers.extend(before.ask(step) for step in range(3))
        die(before)

    monkeypatch.setattr(
        facequarry.miner.queue_actor, "WriterLock", partial(WriterLock, sleep=answer_and_die)
    )
    after = QueueActor(run, SETTINGS, 2)
    assert [after.ask(step) for step in range(3)] == answers
    assert isinstance(after.ask(4), Lease)
    die(after)
    last = QueueActor(run, SETTINGS, 3)
    assert isinstance(last.ask(4), Lease)  # the journal is whole
    die(last)


def test_a_queue_that_cannot_be_the_only_one_says_so_to_those_who_ask(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facequarry.miner.queue_actor, "_QUEUE_LOCK_TIMEOUT_S", 0.0)
    first = QueueActor(run, SETTINGS, 1)
    first.ask(0)
    journal = run.queue_journal.read_bytes()
    refused = QueueActor(run, SETTINGS, 2)
    for _ in range(2):
        with pytest.raises(LockHeld, match=r"queue\.lock is held by process \d+ .*end it$"):
            refused.ask(2)
    assert run.queue_journal.read_bytes() == journal
    die(first)


def test_a_damaged_journal_is_said_to_those_who_ask(run: RunDir) -> None:
    run.queue_journal.write_text("{ no json\n")
    actor = QueueActor(run, SETTINGS, 1)
    with pytest.raises(CorruptJournal, match="line 1 is damaged"):
        actor.ask(0)
    die(actor)
