"""A folder that excludes, one that does not, and one that refuses locks."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from facequarry.datasets.disk import storage_check
from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.disk.storage_check import CHECK_LOCK, check_storage, file_system


def test_a_folder_of_this_machine_does_and_nothing_is_left(tmp_path: Path) -> None:
    findings = check_storage(tmp_path)
    assert [finding.what for finding in findings] == [
        "file system",
        "flock",
        "flock freed",
        "rename",
    ]
    assert all(finding.is_well for finding in findings)
    assert list(tmp_path.iterdir()) == []


def test_locks_that_each_process_has_to_itself_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_check, "_OTHER", "")  # takes what is held
    found = {finding.what: finding for finding in check_storage(tmp_path)}
    assert not found["flock"].is_well and "two drivers" in found["flock"].text


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ("raise PermissionError('denied')", "cannot try the lock: PermissionError: denied"),
        ("import signal; signal.pause()", "did not get an answer in 0 s"),
    ],
)
def test_a_second_process_that_cannot_tell_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str, words: str
) -> None:
    monkeypatch.setattr(storage_check, "_OTHER", other)
    if "pause" in other:
        monkeypatch.setattr(storage_check, "_OTHER_TIMEOUT_S", 0.01)
    found = {finding.what: finding for finding in check_storage(tmp_path)}
    for what in ("flock", "flock freed"):
        assert not found[what].is_well and words in found[what].text


def test_a_folder_that_refuses_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    last = check_storage(tmp_path)[-1]
    assert not last.is_well and "No locks available" in last.text


def test_the_lock_is_held_meanwhile_and_another_check_says_so(tmp_path: Path) -> None:
    seen: list[BadInput] = []

    def meanwhile(_: float) -> None:
        with pytest.raises(BadInput, match="locks exclude here, as they should") as caught:
            check_storage(tmp_path)
        seen.append(caught.value)

    sleep: Callable[[float], None] = meanwhile
    check_storage(tmp_path, hold_s=5, sleep=sleep)
    assert len(seen) == 1


def test_a_check_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / CHECK_LOCK).touch()
    assert all(finding.is_well for finding in check_storage(tmp_path))
    with WriterLock(tmp_path / CHECK_LOCK):
        pass


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no folder"):
        check_storage(tmp_path / "absent")


def test_a_file_system_has_a_name(tmp_path: Path) -> None:
    assert " at /" in file_system(tmp_path) or file_system(tmp_path) == "unknown"
