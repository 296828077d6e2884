from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.journal import (
    CorruptJournal,
    Journal,
    known_generations,
    next_generation_number,
)
from facequarry.miner.queue.queue import Switch
from facequarry.miner.queue.records import read_records
from tests.miner.generations import publish_manifest


def open_journal(path: Path) -> Journal:
    return Journal(path, batch=4, carry_over=0.0, seed=0)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = open_journal(tmp_path / "queue.jsonl")
    journal.switch(Switch(0, 0, 40, 0, "digest"))
    journal.grant(3)
    return journal


def test_what_is_read_back_is_what_was_written(journal: Journal, tmp_path: Path) -> None:
    journal.skip(1, "too small")
    journal.delete(0)
    again = open_journal(tmp_path / "queue.jsonl")
    assert (again.state, again.skipped, again.deleted) == (journal.state, {1: "too small"}, {0})
    assert again.state.switches[0].digest == "digest"


def test_a_journal_from_before_there_were_digests_is_read(tmp_path: Path) -> None:
    path = tmp_path / "queue.jsonl"
    records = [
        {"record": "open", "batch": 4, "carry_over": 0.0, "seed": 0},
        {"record": "switch", "generation": 0, "first_step": 0, "rows": 40, "mined_at_step": 0},
        {"record": "granted", "through_step": 1},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert open_journal(path).state.switches == (Switch(0, 0, 40, 0, None),)


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_record_that_could_not_be_written_leaves_nothing_behind(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "queue.jsonl"
    before, state = path.read_bytes(), journal.state
    write = os.write

    def write_half(descriptor: int, raw: bytes) -> int:
        return write(descriptor, raw[:9])

    def fail(_: int) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, write_half if fails == "write" else fail)
        with pytest.raises(OSError, match="is the disk full"):
            journal.grant(5)
    assert path.read_bytes() == before
    assert journal.state == state
    journal.grant(5)
    assert open_journal(path).state == journal.state


@pytest.mark.parametrize(
    "line",
    [
        '{"record": "switch"}',
        '{"record": "granted", "through_step": "x"}',
        '{"record": "granted", "through_step": "9"}',
        '{"record": "granted", "through_step": -7}',
        '{"record": "granted", "through_step": 41.5}',
        '{"record": "granted", "through_step": true}',
        '{"record": "granted", "through_step": 3}',
        '{"record": "granted"}',
        '{"record": "switch", "generation": "1", "first_step": 9, "rows": 40, "mined_at_step": 0}',
        '{"record": "switch", "generation": 1, "first_step": 9, "rows": 40.0, "mined_at_step": 0}',
        '{"record": "switch", "generation": 1, "first_step": 9, "rows": 40, "mined_at_step": -1}',
        '{"record": "skipped", "generation": null, "reason": "too small"}',
        '{"record": "deleted", "generation": [1]}',
        '{"record": "unheard of"}',
        '{"record": "open", "batch": 4, "carry_over": 0.0, "seed": 0}',
        '{"record": "switch", "generation": 1, "first_step": 2, "rows": 40, "mined_at_step": 0}',
        "[]",
        "7",
    ],
)
def test_a_record_that_makes_no_sense_is_refused(
    journal: Journal, tmp_path: Path, line: str
) -> None:
    path = tmp_path / "queue.jsonl"
    unchained = "".join(json.dumps(record) + "\n" for record in read_records(path))
    path.write_text(unchained)
    assert open_journal(path).state == journal.state
    path.write_text(f"{unchained}{line}\n")
    with pytest.raises(CorruptJournal, match="line 4 is damaged"):
        open_journal(path)


def test_a_journal_that_begins_in_the_middle_is_refused(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "queue.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(CorruptJournal, match="line 1 is damaged"):
        open_journal(path)


def test_a_record_that_was_taken_out_changed_or_moved_is_noticed(
    journal: Journal, tmp_path: Path
) -> None:
    path = tmp_path / "queue.jsonl"
    journal.switch(Switch(1, 4, 40, 4, "digest"))
    journal.grant(7)
    journal.delete(0)
    lines = path.read_text().splitlines(keepends=True)
    other = lines[4].replace('"through_step": 7', '"through_step": 1000000')
    bare = json.dumps({k: v for k, v in json.loads(lines[3]).items() if k != "check"}) + "\n"
    for changed, number in (
        ([*lines[:3], *lines[4:]], 4),
        ([*lines[:4], other, lines[5]], 5),
        ([*lines[:4], lines[5], lines[4]], 5),
        ([*lines[:4], *lines[3:]], 5),
        ([*lines[:3], bare, *lines[4:]], 4),
    ):
        path.write_text("".join(changed))
        with pytest.raises(CorruptJournal, match=f"line {number} is damaged"):
            open_journal(path)
    path.write_text("".join(lines))
    assert open_journal(path).state == journal.state


def test_a_journal_from_before_there_were_checks_goes_on_without(tmp_path: Path) -> None:
    path = tmp_path / "queue.jsonl"
    path.write_text('{"record": "open", "batch": 4, "carry_over": 0.0, "seed": 0}\n')
    journal = open_journal(path)
    journal.switch(Switch(0, 0, 40, 0))
    journal.grant(3)
    assert "check" not in path.read_text()
    assert open_journal(path).state == journal.state


def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert next_generation_number(run) == 0
    publish_manifest(run, 0, mined_at_step=0, rows=40)
    assert next_generation_number(run) == 1
    journal = open_journal(run.queue_journal)
    journal.switch(Switch(0, 0, 40, 0))
    journal.skip(1, "too small")
    shutil.rmtree(run.generations)
    assert next_generation_number(run) == 2
    assert known_generations(run) == [0, 1]
    journal.delete(4)
    assert next_generation_number(run) == 5


def test_a_folder_without_a_manifest_takes_its_number(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    (run.generation(3) / "part").mkdir(parents=True)
    (run.generations / "gen=notes").mkdir()
    assert next_generation_number(run) == 4
    assert known_generations(run) == []
