from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from facequarry.datasets.disk.lock import LockHeld, WriterLock, is_held, read_holder
from tests.datasets.disk.holder import holding

_HOLD = """
import sys
from pathlib import Path
from facequarry.datasets.disk.lock import WriterLock
with WriterLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_writer_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "root" / ".writer.lock"
    with (
        WriterLock(path),
        pytest.raises(LockHeld, match=rf"held by process {os.getpid()} on .* since \d{{4}}-"),
        WriterLock(path),
    ):
        pass


def test_a_long_command_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["worker.py", *["--flag=value"] * 90])
    path = tmp_path / ".writer.lock"
    with WriterLock(path), pytest.raises(LockHeld) as caught, WriterLock(path):
        pass
    assert "(worker.py --flag=value" in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 300


def test_lock_is_free_again_after_use(tmp_path: Path) -> None:
    path = tmp_path / ".writer.lock"
    lock = WriterLock(path)
    for _ in range(2):
        with lock:
            holder = read_holder(path)
            assert holder is not None
            assert holder["pid"] == os.getpid()
        assert read_holder(path) is None


def test_lock_frees_itself_when_its_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / ".writer.lock"
    with holding(_HOLD, path, says="held") as process:
        assert is_held(path)
        with pytest.raises(LockHeld, match=f"process {process.pid} "), WriterLock(path):
            pass
        process.kill()
        process.wait(timeout=60)
    assert not is_held(path)
    with WriterLock(path):
        holder = read_holder(path)
    assert holder is not None
    assert holder["pid"] == os.getpid()


def test_looking_at_a_lock_writes_nothing_and_leaves_it_free(tmp_path: Path) -> None:
    path = tmp_path / ".writer.lock"
    assert not is_held(path)
    assert not path.exists()
    with WriterLock(path):
        assert is_held(path)
    assert not is_held(path)
    with WriterLock(path):
        pass


def test_waiting_ends_when_the_holder_leaves(tmp_path: Path) -> None:
    path = tmp_path / ".writer.lock"
    first = WriterLock(path)
    first.__enter__()
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now > 3:
            first.__exit__(None, None, None)

    with WriterLock(path, timeout_s=10, clock=lambda: now, sleep=sleep):
        assert 3 < now < 4


def test_waiting_has_an_end_that_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / ".writer.lock"
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    with (
        WriterLock(path),
        pytest.raises(LockHeld, match="was not freed in 10 s"),
        WriterLock(path, timeout_s=10, clock=lambda: now, sleep=sleep),
    ):
        pass
