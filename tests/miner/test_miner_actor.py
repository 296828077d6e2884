from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import facequarry.miner.miner_actor
from facequarry.datasets.disk.fence import FencedLock, LockLost
from facequarry.datasets.disk.publish import sweep_staging
from facequarry.datasets.runs.clock import RunClock
from facequarry.datasets.runs.refreshes import read_refreshes
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.miner_actor import MinerActor
from facequarry.miner.queue.client import MiningFailed
from facequarry.miner.refresh.generation import make_generation
from tests.miner.small_run import PLAN, SmallRun, checkpoint_of


@pytest.fixture
def actor(small: SmallRun) -> Iterator[MinerActor]:
    threads = torch.get_num_threads()
    yield MinerActor(small.run, small.at, PLAN, last_step=100, max_failures=2, threads=1, attempt=1)
    torch.set_num_threads(threads)


def reasons(small: SmallRun) -> list[str]:
    return [event["reason"] for event in small.events() if event["event"] == "failed"]


def stop_after(actor: MinerActor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell the miner to stop once it has published."""

    def make_and_stop(*args: object, **kwargs: object) -> int:
        rows = make_generation(*args, **kwargs)  # type: ignore[arg-type]
        actor.stop()
        return rows

    monkeypatch.setattr(facequarry.miner.miner_actor, "make_generation", make_and_stop)


def test_the_newest_checkpoint_is_mined_under_the_lock(
    small: SmallRun, actor: MinerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(actor, monkeypatch)
    assert actor.work() == 1
    names = [event["event"] for event in small.events()]
    assert names == ["begin", "published", "skipped"]
    assert (small.run.root / ".miner.lock.token").read_text().strip("0\n") == "1"


def test_a_miner_that_lost_its_lock_takes_it_again_and_goes_on(
    small: SmallRun, actor: MinerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens: list[int] = []

    def lose_it_once(run: RunDir, *args: object, lock: FencedLock, **kwargs: object) -> int:
        tokens.append(lock.token)
        if len(tokens) == 1:
            run.miner_lock.unlink()
        else:
            actor.stop()  # after this refresh
        return make_generation(run, *args, lock=lock, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(facequarry.miner.miner_actor, "make_generation", lose_it_once)
    assert actor.work() == 1
    assert tokens == [1, 2]
    assert [reason.split(":")[0] for reason in reasons(small)] == [LockLost.__name__]


def test_an_error_beside_a_refresh_is_logged_and_mining_goes_on(
    small: SmallRun, actor: MinerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(actor, monkeypatch)
    monkeypatch.setattr(facequarry.miner.miner_actor, "_POLL_S", 0.0)
    fails = iter([True, True, False])

    def sweep(folder: Path) -> int:
        if next(fails):
            raise PermissionError("read-only file system")
        return sweep_staging(folder)

    monkeypatch.setattr("facequarry.miner.refresh.one_miner.sweep_staging", sweep)
    assert actor.work() == 1
    assert reasons(small) == ["PermissionError: read-only file system"] * 2


def test_a_log_that_takes_nothing_does_not_end_mining(
    small: SmallRun, actor: MinerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(actor, monkeypatch)
    monkeypatch.setattr(facequarry.miner.miner_actor, "_POLL_S", 0.0)
    append, fails = actor._log._append, iter([True] * 3)

    def append_late(raw: bytes) -> None:
        if next(fails, False):  # the begin, then the failure of the refresh, then the other one
            raise OSError("no space left on device")
        append(raw)

    monkeypatch.setattr(actor._log, "_append", append_late)
    assert actor.work() == 1
    assert [event["event"] for event in small.events()] == ["begin", "published", "skipped"]


def test_no_first_generation_ends_the_miner_with_its_reason(
    small: SmallRun, actor: MinerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(facequarry.miner.miner_actor, "make_generation", fail)
    monkeypatch.setattr(facequarry.miner.miner_actor, "_POLL_S", 0.0)
    with pytest.raises(MiningFailed, match="failed 2 times in a row, .*no space left"):
        actor.work()


@pytest.mark.parametrize(
    ("weight", "found"), [(float("nan"), "NaN or infinity"), (0.0, "a row of norm 0")]
)
def test_a_first_refresh_does_without_a_checkpoint_that_embeds_nothing(
    weight: float, found: str, small: SmallRun, actor: MinerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `refresh.on_empty = random` training goes on, and brings another checkpoint."""
    monkeypatch.setattr(actor._refresher, "_random_until_mined", True)
    checkpoint_of(small.run, 8, weight)

    def train_on(_: int) -> None:
        if not small.run.checkpoint(12).exists():
            shutil.copytree(small.run.checkpoint(4), small.run.checkpoint(12))

    monkeypatch.setattr(actor, "_pause", train_on)
    stop_after(actor, monkeypatch)
    assert actor.work() == 1
    (reason,) = reasons(small)
    assert re.match(rf"CannotEmbed: the checkpoint of step 8 embeds face \d+ as {found}", reason)
    assert small.events()[-1]["skipped_checkpoints"] == 3


def test_a_first_refresh_that_training_waits_for_ends_with_the_checkpoint_that_embeds_nothing(
    small: SmallRun, actor: MinerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facequarry.miner.miner_actor, "_POLL_S", 0.0)
    checkpoint_of(small.run, 8, float("nan"))
    with pytest.raises(MiningFailed, match="failed 2 times in a row, at checkpoint 8: CannotEmbed"):
        actor.work()
    assert small.run.generation_numbers() == []


def test_an_index_that_cannot_be_ends_a_first_refresh_at_once(small: SmallRun) -> None:
    config = replace(PLAN.config, engine="faiss", faiss_index="IVF4096,Flat")
    actor = MinerActor(
        small.run,
        small.at,
        replace(PLAN, config=config),
        last_step=100,
        max_failures=2,
        threads=torch.get_num_threads(),
        attempt=1,
    )
    with pytest.raises(MiningFailed, match="the first refresh cannot succeed, .*IVF4096"):
        actor.work()
    assert len(reasons(small)) == 1


def test_a_wait_for_the_lock_is_logged_once_with_the_refresh_that_it_delays(
    small: SmallRun, actor: MinerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(actor, monkeypatch)
    monkeypatch.setattr(facequarry.miner.miner_actor, "_LOCK_TIMEOUT_S", 0.0)
    other = FencedLock(small.run.miner_lock)
    other.__enter__()
    in_hand, looks = actor._refresher.in_hand, iter(range(5))

    def nothing_at_first_and_let_go_at_last() -> dict[str, int]:
        look = next(looks)
        if look == 4:
            other.__exit__(None, None, None)
        return {} if look < 2 else in_hand()

    monkeypatch.setattr(actor._refresher, "in_hand", nothing_at_first_and_let_go_at_last)
    assert actor.work() == 1
    events = small.events()
    names = [event["event"] for event in events]
    assert names == ["waiting", "waiting", "begin", "published", "skipped"]
    assert "checkpoint_step" not in events[0]
    assert (events[1]["checkpoint_step"], events[1]["generation"]) == (4, 0)
    assert all("is held by process" in event["reason"] for event in events[:2])
    refreshes = read_refreshes(events, [], RunClock(events), is_live=False)
    assert [refresh.outcome for refresh in refreshes] == ["published"]
