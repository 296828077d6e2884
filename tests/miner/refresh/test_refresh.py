from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from facequarry.datasets.actors.pool import WorkersDied
from facequarry.datasets.disk.errors import BadInput, NotFound, NotInstalled
from facequarry.datasets.disk.fence import LockLost
from facequarry.datasets.disk.publish import AlreadyPublished
from facequarry.datasets.faces.schema import CorruptShard
from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.core.memory import OutOfMemory
from facequarry.miner.queue.client import MiningFailed
from facequarry.miner.refresh.refresh import Refresher
from facequarry.miner.refresh.unit_rows import CannotEmbed
from facequarry.trainer.checkpoints.checkpoint import CheckpointMismatch, CorruptCheckpoint
from tests.miner.generations import publish


class FakeRun:
    """Checkpoints that appear by hand, and a miner that publishes or fails as told."""

    def __init__(
        self, root: Path, max_failures: int = 2, *, random_until_mined: bool = False
    ) -> None:
        self.run = RunDir(root)
        self.fails = False
        self.error: Exception = OSError("disk full")
        self.now = time.time() + 3600  # an hour after anything that the test writes
        self.mined: list[tuple[int, int]] = []
        self.log = EventLog(self.run.events, "miner", attempt=1)
        self.refresher = Refresher(
            self.run,
            self.refresh,
            last_step=100,
            max_failures=max_failures,
            random_until_mined=random_until_mined,
            log=self.log,
            clock=lambda: self.now,
        )

    def checkpoint(self, step: int) -> None:
        folder = self.run.checkpoint(step)
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")

    def prune(self, *steps: int) -> None:
        for step in steps:
            shutil.rmtree(self.run.checkpoint(step))

    def events(self, name: str) -> list[dict[str, Any]]:
        return [e for e in read_events(self.run.events, "miner") if e["event"] == name]

    def refresh(self, step: int, number: int) -> None:
        if self.fails:
            raise self.error
        self.mined.append((step, number))
        publish(self.run, number, mined_at_step=step)


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path)


def test_nothing_is_due_before_the_first_checkpoint(fake: FakeRun) -> None:
    assert fake.refresher.due() is None
    assert not fake.refresher.turn()


def test_each_checkpoint_is_mined_once(fake: FakeRun) -> None:
    for step in (0, 10):
        fake.checkpoint(step)
        assert fake.refresher.turn()
        assert not fake.refresher.turn()
    assert fake.mined == [(0, 0), (10, 1)]


def test_a_busy_miner_takes_the_newest_and_counts_the_others(fake: FakeRun) -> None:
    fake.checkpoint(0)
    fake.refresher.turn()
    for step in (10, 20, 30):
        fake.checkpoint(step)
    fake.refresher.turn()
    assert fake.mined[-1] == (30, 1)
    assert read_events(fake.run.events, "miner")[-1]["skipped_checkpoints"] == 2


def test_skipped_checkpoints_count_when_they_were_pruned_meanwhile(fake: FakeRun) -> None:
    trainer = EventLog(fake.run.events, "trainer", attempt=1)
    for step in (0, 10, 20, 30):
        fake.checkpoint(step)
        trainer.write("checkpoint", step=step, checkpoint_s=0.1)
        if step == 0:
            fake.refresher.turn()
    fake.prune(10, 20)
    fake.refresher.turn()
    fake.checkpoint(40)
    fake.refresher.turn()
    skipped = [(e["checkpoint_step"], e["skipped_checkpoints"]) for e in fake.events("skipped")]
    assert skipped == [(30, 2)]


def test_checkpoint_0_counts_as_skipped_where_the_first_refresh_takes_a_later_one(
    fake: FakeRun,
) -> None:
    for step in (0, 10, 20):
        fake.checkpoint(step)
    fake.refresher.turn()
    assert fake.events("skipped")[0]["skipped_checkpoints"] == 2


def test_folders_are_looked_through_again_only_when_they_change(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[RunDir] = []
    steps_of = RunDir.checkpoint_steps

    def look(run: RunDir) -> list[int]:
        looks.append(run)
        return steps_of(run)

    monkeypatch.setattr(RunDir, "checkpoint_steps", look)
    fake.checkpoint(0)
    fake.refresher.turn()
    assert fake.refresher.due() is None
    looks.clear()
    for _ in range(5):
        assert fake.refresher.due() is None
    assert not looks
    fake.checkpoint(10)
    assert fake.refresher.due() == 10


def test_a_change_in_the_same_tick_of_the_file_system_is_seen(fake: FakeRun) -> None:
    fake.checkpoint(0)
    fake.refresher.turn()
    fake.checkpoint(10)
    fake.now = time.time()
    dates = os.stat(fake.run.checkpoints)
    os.rename(fake.run.checkpoint(10), fake.run.root / "elsewhere")
    os.utime(fake.run.checkpoints, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert fake.refresher.due() is None
    os.rename(fake.run.root / "elsewhere", fake.run.checkpoint(10))
    os.utime(fake.run.checkpoints, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert fake.refresher.due() == 10


def test_dates_that_were_too_fresh_are_no_proof_when_they_are_old(fake: FakeRun) -> None:
    fake.checkpoint(0)
    fake.refresher.turn()
    dates = os.stat(fake.run.checkpoints)
    now, fake.now = fake.now, time.time()
    assert fake.refresher.due() is None
    fake.checkpoint(10)
    os.utime(fake.run.checkpoints, ns=(dates.st_atime_ns, dates.st_mtime_ns))  # in the same tick
    fake.now = now
    assert fake.refresher.due() == 10


def test_the_last_checkpoint_is_not_mined(fake: FakeRun) -> None:
    fake.checkpoint(0)
    fake.checkpoint(100)
    fake.refresher.turn()
    assert fake.mined == [(0, 0)]


def test_a_restarted_miner_goes_on_from_what_is_published(fake: FakeRun, tmp_path: Path) -> None:
    fake.checkpoint(0)
    fake.refresher.turn()
    again = FakeRun(tmp_path)
    assert again.refresher.due() is None
    again.checkpoint(10)
    again.refresher.turn()
    assert again.mined == [(10, 1)]


def test_a_failed_refresh_is_logged_and_tried_on_the_newest(fake: FakeRun) -> None:
    fake.checkpoint(0)
    fake.refresher.turn()
    fake.checkpoint(10)
    fake.fails = True
    for _ in range(4):  # more than max_failures: there is a generation, so training goes on
        assert not fake.refresher.turn()
    assert fake.refresher.failures == 4
    fake.checkpoint(20)
    fake.fails = False
    assert fake.refresher.turn()
    assert fake.mined[-1] == (20, 1)
    assert fake.refresher.failures == 0
    failed = [e for e in read_events(fake.run.events, "miner") if e["event"] == "failed"]
    assert [event["reason"] for event in failed] == ["OSError: disk full"] * 4


def test_no_first_generation_gives_up_with_the_reason(fake: FakeRun) -> None:
    fake.checkpoint(0)
    fake.fails = True
    assert not fake.refresher.turn()
    with pytest.raises(MiningFailed, match="disk full"):
        fake.refresher.turn()


@pytest.mark.parametrize("error", [BadInput("no identity has two faces"), NotInstalled("FAISS")])
def test_an_error_that_cannot_go_away_ends_the_first_refresh_at_once(
    tmp_path: Path, error: Exception
) -> None:
    fake = FakeRun(tmp_path, max_failures=5)
    fake.checkpoint(0)
    fake.fails, fake.error = True, error
    with pytest.raises(MiningFailed, match=f"the first refresh cannot succeed, .*: {error}"):
        fake.refresher.turn()


@pytest.mark.parametrize(
    "error",
    [
        CannotEmbed("face 3 as NaN"),
        CorruptCheckpoint("bytes changed"),
        CheckpointMismatch("weights do not fit"),
        CorruptShard("bytes changed"),
        NotFound("no such snapshot"),
        AlreadyPublished("generation 0"),
        OutOfMemory("no memory left"),
        WorkersDied("three times"),
        OSError("disk full"),
        ValueError("a defect"),
    ],
)
def test_what_another_checkpoint_or_moment_may_mend_is_tried_again(
    tmp_path: Path, error: Exception
) -> None:
    fake = FakeRun(tmp_path, max_failures=5)
    fake.checkpoint(0)
    fake.fails, fake.error = True, error
    for failures in range(1, 5):
        assert not fake.refresher.turn()
        assert fake.refresher.failures == failures
    with pytest.raises(MiningFailed, match="failed 5 times in a row, at checkpoint 0"):
        fake.refresher.turn()
    assert len(fake.events("failed")) == 5


def test_an_unusable_checkpoint_waits_for_the_next_one_where_training_goes_on(
    tmp_path: Path,
) -> None:
    fake = FakeRun(tmp_path, random_until_mined=True)
    fake.checkpoint(0)
    fake.fails, fake.error = True, CannotEmbed("face 3 as NaN")
    for _ in range(4):  # more than max_failures
        assert not fake.refresher.turn()
    assert fake.refresher.failures == len(fake.events("failed")) == 1
    assert fake.refresher.in_hand() == {}
    fake.checkpoint(10)
    assert fake.refresher.is_due_at_once()
    fake.fails = False
    assert fake.refresher.turn()
    assert fake.mined == [(10, 0)]
    assert fake.refresher.failures == 0


def test_as_many_unusable_checkpoints_as_are_allowed_end_the_first_refresh(
    tmp_path: Path,
) -> None:
    fake = FakeRun(tmp_path, random_until_mined=True)
    fake.fails, fake.error = True, CannotEmbed("face 3 as NaN")
    fake.checkpoint(0)
    assert not fake.refresher.turn()
    fake.checkpoint(10)
    with pytest.raises(MiningFailed, match="failed 2 times in a row, at checkpoint 10"):
        fake.refresher.turn()


def test_with_a_generation_an_unusable_checkpoint_is_tried_once(fake: FakeRun) -> None:
    fake.checkpoint(0)
    fake.refresher.turn()
    fake.checkpoint(10)
    fake.fails, fake.error = True, CannotEmbed("face 3 as NaN")
    for _ in range(4):
        assert not fake.refresher.turn()
    assert len(fake.events("failed")) == 1


def test_a_damaged_checkpoint_may_be_followed_by_a_good_one(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path, max_failures=5)
    fake.checkpoint(0)
    fake.fails, fake.error = True, CorruptCheckpoint("bytes changed")
    assert not fake.refresher.turn()
    assert not fake.refresher.is_due_at_once()
    fake.checkpoint(10)
    assert fake.refresher.is_due_at_once()
    fake.fails = False
    assert fake.refresher.turn()
    assert not fake.refresher.is_due_at_once()


def test_with_a_generation_no_error_ends_mining(fake: FakeRun) -> None:
    fake.checkpoint(0)
    fake.refresher.turn()
    fake.checkpoint(10)
    fake.fails, fake.error = True, BadInput("no identity has two faces")
    for _ in range(4):
        assert not fake.refresher.turn()


def test_a_checkpoint_that_was_pruned_while_it_loaded_is_no_failure(fake: FakeRun) -> None:
    fake.checkpoint(0)
    published = fake.refresh

    def prune_first(step: int, number: int) -> None:
        if step == 0:
            fake.checkpoint(10)
            fake.prune(0)
            raise FileNotFoundError("no checkpoint")
        published(step, number)

    refresher = Refresher(
        fake.run, prune_first, last_step=100, max_failures=1, log=fake.log, clock=lambda: fake.now
    )
    assert not refresher.turn()
    assert refresher.failures == 0
    assert refresher.is_due_at_once()
    assert refresher.turn()
    assert fake.mined == [(10, 0)]


def test_failures_name_their_checkpoint_and_generation(fake: FakeRun) -> None:
    fake.checkpoint(0)
    fake.refresher.turn()
    fake.checkpoint(10)
    assert fake.refresher.in_hand() == {"checkpoint_step": 10, "generation": 1}
    fake.fails = True
    fake.refresher.turn()
    (failed,) = fake.events("failed")
    assert (failed["checkpoint_step"], failed["generation"]) == (10, 1)


def test_a_lost_lock_ends_refreshing_until_it_is_taken_again(fake: FakeRun) -> None:
    fake.checkpoint(0)
    fake.fails, fake.error = True, LockLost("taken over")
    with pytest.raises(LockLost):
        fake.refresher.turn()
    assert fake.events("failed")[0]["reason"] == "LockLost: taken over"
    assert fake.refresher.failures == 0


def test_an_older_generation_mined_by_hand_is_not_mined_again_and_again(fake: FakeRun) -> None:
    for step in (0, 50):
        fake.checkpoint(step)
        fake.refresher.turn()
    publish(fake.run, 2, mined_at_step=0)
    assert fake.refresher.due() is None
