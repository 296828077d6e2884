from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facequarry.datasets.disk.fence import FencedLock, LockLost
from facequarry.datasets.disk.lock import LockHeld, WriterLock, is_held, read_holder
from tests.datasets.disk.holder import holding

STALE_S = 60.0

_HOLD = """
import sys
from pathlib import Path
from facequarry.datasets.disk.fence import FencedLock, LockLost
with FencedLock(Path(sys.argv[1])) as lock:
    print(lock.token, flush=True)
    sys.stdin.readline()
    try:
        lock.check()
        print("still held", flush=True)
    except LockLost:
        print("lost", flush=True)
"""


class Clock:
    """A clock that moves when told to, and while someone sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fenced(folder: Path, clock: Clock, timeout_s: float = 0.0) -> FencedLock:
    return FencedLock(
        folder / ".miner.lock",
        timeout_s=timeout_s,
        stale_after_s=STALE_S,
        beat_every_s=None,
        clock=clock,
        sleep=clock.sleep,
    )


def test_every_acquisition_has_a_higher_token(tmp_path: Path, clock: Clock) -> None:
    tokens = []
    for lock in [fenced(tmp_path, clock), fenced(tmp_path, clock)] * 2:
        with lock:
            lock.check()
            tokens.append(lock.token)
    assert tokens == [1, 2, 3, 4]


def test_a_holder_that_is_alive_keeps_the_lock(tmp_path: Path, clock: Clock) -> None:
    first, second = fenced(tmp_path, clock), fenced(tmp_path, clock)
    with first:
        for _ in range(5):
            clock.now += STALE_S - 1
            with pytest.raises(LockHeld, match=f"process {os.getpid()} "), second:
                pass
            first.beat()
        first.check()


def test_a_silent_holder_is_taken_over_from_and_finds_out(tmp_path: Path, clock: Clock) -> None:
    first, second = fenced(tmp_path, clock), fenced(tmp_path, clock)
    with first:
        clock.now += STALE_S
        with second:
            assert second.token == first.token + 1
            with pytest.raises(LockLost, match="taken over .* after 60 s without a heartbeat"):
                first.check()
            second.check()


def test_a_late_heartbeat_does_not_bring_the_lock_back(tmp_path: Path, clock: Clock) -> None:
    first, second, third = (fenced(tmp_path, clock) for _ in range(3))
    with first:
        clock.now += STALE_S
        with second:
            clock.now += STALE_S
            first.beat()  # of a file that has no name any more
            with third, pytest.raises(LockLost):
                second.check()


def test_a_loser_that_leaves_frees_nothing(tmp_path: Path, clock: Clock) -> None:
    first, second = fenced(tmp_path, clock), fenced(tmp_path, clock)
    with first:
        clock.now += STALE_S
        second.__enter__()
    assert is_held(tmp_path / ".miner.lock")
    assert read_holder(tmp_path / ".miner.lock") is not None
    with pytest.raises(LockHeld), fenced(tmp_path, clock):
        pass
    second.check()
    second.__exit__(None, None, None)


def test_a_loser_may_take_the_lock_again_once_it_is_free(tmp_path: Path, clock: Clock) -> None:
    first, second = fenced(tmp_path, clock), fenced(tmp_path, clock)
    with first:
        clock.now += STALE_S
        with second, pytest.raises(LockHeld), first:
            pass
    with first:
        first.check()
        assert first.token == 3


def test_a_waiter_takes_over_as_soon_as_the_heartbeat_is_stale(
    tmp_path: Path, clock: Clock
) -> None:
    began = clock.now
    with fenced(tmp_path, clock), fenced(tmp_path, clock, timeout_s=90):
        assert STALE_S <= clock.now - began < STALE_S + 1


def test_a_waiter_gives_up_after_its_time(tmp_path: Path, clock: Clock) -> None:
    began = clock.now
    with (
        fenced(tmp_path, clock),
        pytest.raises(LockHeld, match="wait for it to end"),
        fenced(tmp_path, clock, timeout_s=30),
    ):
        pass
    assert 30 <= clock.now - began < 31


def test_a_waiter_takes_a_lock_that_is_freed_meanwhile(tmp_path: Path, clock: Clock) -> None:
    first = fenced(tmp_path, clock)
    first.__enter__()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        first.__exit__(None, None, None)

    waiter = FencedLock(
        tmp_path / ".miner.lock", timeout_s=30, beat_every_s=None, clock=clock, sleep=sleep
    )
    with waiter:
        waiter.check()


def test_a_plain_lock_excludes_a_fenced_one(tmp_path: Path, clock: Clock) -> None:
    clock.now = time.time()  # a plain lock has no heartbeat but the moment it was taken
    with WriterLock(tmp_path / ".miner.lock"), pytest.raises(LockHeld), fenced(tmp_path, clock):
        pass
    with (
        fenced(tmp_path, clock),
        pytest.raises(LockHeld),
        WriterLock(tmp_path / ".miner.lock"),
    ):
        pass


def test_a_lock_whose_file_is_removed_is_lost(tmp_path: Path, clock: Clock) -> None:
    with fenced(tmp_path, clock) as lock:
        (tmp_path / ".miner.lock").unlink()
        with pytest.raises(LockLost):
            lock.check()


def test_a_stopped_taker_does_not_stop_the_others_for_ever(tmp_path: Path, clock: Clock) -> None:
    with WriterLock(tmp_path / ".miner.lock.token"):  # who stopped holds the file of tokens
        with (
            pytest.raises(LockHeld, match=r"\.token was not freed in 10 s"),
            fenced(tmp_path, clock),
        ):
            pass


def test_an_acquisition_that_fails_leaves_the_lock_free(tmp_path: Path, clock: Clock) -> None:
    def fail() -> int:
        raise OSError("stale file handle")

    path = tmp_path / ".miner.lock"
    lock = FencedLock(path, beat_every_s=None, clock=clock, beyond=fail)
    with pytest.raises(OSError, match="stale"), lock:
        pass
    assert not is_held(path)
    with fenced(tmp_path, clock) as other:
        other.check()


def test_a_lock_whose_heartbeats_cannot_start_is_left_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    path = tmp_path / ".miner.lock"
    with pytest.raises(RuntimeError, match="new thread"), FencedLock(path):
        pass
    assert not is_held(path)


@pytest.mark.parametrize("damaged", [b"\0" * 21, b"no number, and longer than a token is\n", b"-7"])
def test_a_damaged_file_of_tokens_is_counted_on_from_what_is_known(
    tmp_path: Path, clock: Clock, damaged: bytes
) -> None:
    path = tmp_path / ".miner.lock"
    path.with_name(".miner.lock.token").write_bytes(damaged)
    tokens = []
    for _ in range(2):
        with FencedLock(path, beat_every_s=None, clock=clock, beyond=lambda: 41) as lock:
            tokens.append(lock.token)
    with fenced(tmp_path, clock) as lock:
        assert [*tokens, lock.token] == [42, 43, 44]


def test_no_heartbeat_outlives_its_lock(tmp_path: Path) -> None:
    before = threading.active_count()
    with FencedLock(tmp_path / ".miner.lock", beat_every_s=0.001):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_heartbeats_go_on_by_themselves(tmp_path: Path) -> None:
    beaten = threading.Event()
    beats: list[float] = []

    def clock() -> float:
        # Called by the thread only once the lock is taken: the beat at taking is the main thread's.
        if threading.current_thread() is not threading.main_thread():
            beats.append(1.0)
            beaten.set()
        return 5.0

    path = tmp_path / ".miner.lock"
    with FencedLock(path, beat_every_s=0.001, clock=clock):
        os.utime(path, (0, 0))
        assert beaten.wait(timeout=60)
    assert beats


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["take", "beat", "leave", "wait", "check"])),
        max_size=30,
    )
)
def test_at_most_one_passes_the_check_and_it_has_the_highest_token(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, str]]
) -> None:
    clock, folder = Clock(), tmp_path_factory.mktemp("fence")
    locks = [fenced(folder, clock) for _ in range(3)]
    believes = [False] * 3
    highest = 0
    for who, move in moves:
        lock = locks[who]
        match move:
            case "wait":
                clock.now += STALE_S / 2
            case "take" if not believes[who]:
                try:
                    lock.__enter__()
                except LockHeld:
                    continue
                believes[who] = True
                assert lock.token == highest + 1
                highest = lock.token
            case "beat" if believes[who]:
                lock.beat()
            case "leave" if believes[who]:
                lock.__exit__(None, None, None)
                believes[who] = False
        passing = []
        for other, believing in zip(locks, believes, strict=True):
            if believing:
                try:
                    other.check()
                    passing.append(other.token)
                except LockLost:
                    pass
        assert passing in ([], [highest])
    for lock, believing in zip(locks, believes, strict=True):
        if believing:
            lock.__exit__(None, None, None)


def test_a_stopped_process_wakes_up_without_the_lock(tmp_path: Path) -> None:
    path = tmp_path / ".miner.lock"
    with holding(_HOLD, path, says="1") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # until it has stopped
        with pytest.raises(LockHeld, match=f"process {process.pid} "), FencedLock(path):
            pass
        with FencedLock(path, clock=lambda: time.time() + 2 * STALE_S) as taken:
            os.kill(process.pid, signal.SIGCONT)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "lost\n"
            taken.check()
            assert taken.token == 2
            process.wait(timeout=60)


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / ".miner.lock"
    with holding(_HOLD, path, says="1") as process:
        process.kill()
        process.wait(timeout=60)
    with FencedLock(path) as lock:
        assert lock.token == 2
