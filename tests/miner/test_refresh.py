from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.events import EventLog, read_events
from datasets.run_dir import RunDir
from datasets.split import Split
from datasets.triplets import read_generation_manifest, read_table
from miner.config import MinerConfig
from miner.generation import make_generation
from miner.refresh import MiningFailed, Refresher, RefreshPlan
from tests.miner.test_serve import publish
from tests.trainer.stores import small_store, still, train_small
from trainer.config import TrainerConfig


class FakeRun:
    """Checkpoints that appear by hand, and a miner that publishes or fails as told."""

    def __init__(self, root: Path, max_failures: int = 2) -> None:
        self.run = RunDir(root)
        self.fails = False
        self.mined: list[tuple[int, int]] = []
        self.log = EventLog(self.run.events, "miner", attempt=1)
        self.refresher = Refresher(
            self.run, self.refresh, last_step=100, max_failures=max_failures, log=self.log
        )

    def checkpoint(self, step: int) -> None:
        folder = self.run.checkpoint(step)
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")

    def refresh(self, step: int, number: int) -> None:
        if self.fails:
            raise OSError("disk full")
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


def test_anchors_are_budgeted_by_what_training_consumes() -> None:
    plan = RefreshPlan(
        config=MinerConfig(positives="random", positives_per_anchor=4, negatives_per_pair=2),
        split=Split(),
        rows_needed=1000,
        seed=0,
    )
    many = np.repeat(np.arange(1000), 5)
    assert plan.resolved(many).anchors == 125
    assert plan.resolved(many[:100]).anchors is None
    assert replace(plan, rows_needed=None).resolved(many).anchors is None
    told = replace(plan, config=MinerConfig(anchors=7))
    assert told.resolved(many).anchors == 7


def test_the_budget_counts_the_positives_that_there_are() -> None:
    config = MinerConfig(positives="random", positives_per_anchor=4)
    plan = RefreshPlan(config=config, split=Split(), rows_needed=1000, seed=0)
    pairs_and_singles = np.r_[np.repeat(np.arange(900), 2), np.arange(900, 1500)]
    assert plan.resolved(pairs_and_singles).anchors == 1000


def test_an_older_generation_mined_by_hand_is_not_mined_again_and_again(fake: FakeRun) -> None:
    for step in (0, 50):
        fake.checkpoint(step)
        fake.refresher.turn()
    publish(fake.run, 2, mined_at_step=0)
    assert fake.refresher.due() is None


def test_the_same_refresh_publishes_the_same_bytes(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    run = RunDir(tmp_path / "run")
    config = TrainerConfig(embedding_dim=8, steps=4, batch=8, checkpoint_every=4)
    train_small(run, still(store), config)
    plan = RefreshPlan(
        config=MinerConfig(negatives="random", threads=1),
        split=Split(train=0.6, tuning=0.0),
        rows_needed=None,
        seed=0,
        snapshots="pinned",
    )
    log = EventLog(run.events, "miner", attempt=1)
    parts = []
    for root in (run, RunDir(tmp_path / "again")):
        if root is not run:
            root.checkpoints.parent.mkdir()
            root.checkpoints.symlink_to(run.checkpoints)
        rows = make_generation(root, still(store), plan, step=4, number=0, log=log)
        manifest = read_generation_manifest(root.generation(0))
        del manifest["timing"]
        parts.append((manifest, [p.read_bytes() for p in root.generation(0).glob("*.parquet")]))
        assert rows == read_table(root.generation(0)).num_rows > 0
    assert parts[0] == parts[1]
    names = ("pairs", "semi_hard", "band_empty", "beyond_search", "suspect")
    published = read_events(run.events, "miner")[1]
    assert all(published[name] == parts[0][0]["stats"][name] for name in names)
