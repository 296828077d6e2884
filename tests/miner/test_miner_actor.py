from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import miner.actors
from datasets.fence import FencedLock, LockLost
from datasets.run_dir import RunDir
from miner.actors import MinerActor
from miner.generation import make_generation
from tests.miner.small_run import PLAN, SmallRun, copied, train_once


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    return train_once(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def small(trained: SmallRun, tmp_path: Path) -> SmallRun:
    return copied(trained, tmp_path)


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

    monkeypatch.setattr(miner.actors, "make_generation", make_and_stop)


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

    monkeypatch.setattr(miner.actors, "make_generation", lose_it_once)
    assert actor.work() == 1
    assert tokens == [1, 2]
    assert [reason.split(":")[0] for reason in reasons(small)] == [LockLost.__name__]


def test_a_lock_that_another_holds_is_logged_with_what_it_keeps_from_happening(
    small: SmallRun, actor: MinerActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(actor, monkeypatch)
    monkeypatch.setattr(miner.actors, "_LOCK_TIMEOUT_S", 0.0)
    other = FencedLock(small.run.miner_lock)
    other.__enter__()
    write = actor._log.write

    def write_and_let_go(event: str, **fields: object) -> None:
        write(event, **fields)  # type: ignore[arg-type]
        other.__exit__(None, None, None)

    monkeypatch.setattr(actor._log, "write", write_and_let_go)
    assert actor.work() == 1
    failed = small.events()[0]
    assert (failed["event"], failed["checkpoint_step"], failed["generation"]) == ("failed", 4, 0)
    assert "is held by process" in failed["reason"]
