from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from facequarry.datasets.runs.events import (
    FIELDS,
    EventLog,
    EventTail,
    last_attempt_by_step,
    read_events,
    standing,
)


def make_log(folder: Path, attempt: int = 1) -> EventLog:
    return EventLog(folder, "trainer", attempt=attempt, clock=lambda: 12.5)


def test_an_event_comes_back_as_written(tmp_path: Path) -> None:
    make_log(tmp_path).write("step", step=3, loss_d2=0.25, generation=None)
    assert read_events(tmp_path, "trainer") == [
        {
            "time": 12.5,
            "attempt": 1,
            "event": "step",
            "step": 3,
            "loss_d2": 0.25,
            "generation": None,
        }
    ]


def test_a_field_without_a_meaning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="trainer/bogus"):
        make_log(tmp_path).write("step", bogus=1)
    assert read_events(tmp_path, "trainer") == []


def test_a_value_that_is_no_number_becomes_null(tmp_path: Path) -> None:
    make_log(tmp_path).write("step", step=0, loss_d2=float("nan"))
    assert read_events(tmp_path, "trainer")[0]["loss_d2"] is None


def test_a_torn_line_swallows_nothing_of_the_next_attempt(tmp_path: Path) -> None:
    make_log(tmp_path).write("step", step=0)
    path = tmp_path / "trainer.jsonl"
    with path.open("a") as file:
        file.write('{"time": 13.0, "att')
    assert [event["step"] for event in read_events(tmp_path, "trainer")] == [0]
    make_log(tmp_path, attempt=2).write("step", step=1)
    assert [event["step"] for event in read_events(tmp_path, "trainer")] == [0, 1]


def test_a_line_that_a_full_disk_took_half_of_is_cut_off_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, write = make_log(tmp_path), os.write
    log.write("step", step=0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, raw: write(descriptor, raw[:9]))
        with pytest.raises(OSError, match="9 of .* bytes; is the disk full"):
            log.write("step", step=1)
    log.write("step", step=2)
    assert [event["step"] for event in read_events(tmp_path, "trainer")] == [0, 2]
    assert len((tmp_path / "trainer.jsonl").read_text().splitlines()) == 2


def test_a_long_log_is_not_read_to_find_its_last_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_log(tmp_path).write("step", step=0)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("the whole log was read"))
    make_log(tmp_path, attempt=2).write("step", step=1)
    assert [event["step"] for event in read_events(tmp_path, "trainer")] == [0, 1]


def test_readers_keep_the_last_attempt_of_a_step(tmp_path: Path) -> None:
    first, second = make_log(tmp_path), make_log(tmp_path, attempt=2)
    for step in (0, 1, 2):
        first.write("step", step=step, loss_d2=1.0)
    for step in (1, 2, 3):
        second.write("step", step=step, loss_d2=2.0)
    kept = last_attempt_by_step(read_events(tmp_path, "trainer"))
    assert [(event["step"], event["attempt"]) for event in kept] == [(0, 1), (1, 2), (2, 2), (3, 2)]


def test_steps_that_a_later_attempt_takes_anew_are_dropped_before_it_gets_there(
    tmp_path: Path,
) -> None:
    first, second = make_log(tmp_path), make_log(tmp_path, attempt=2)
    first.write("start", step=0)
    for step in range(5):
        first.write("step", step=step, loss_d2=1.0)
    second.write("start", step=2)
    kept = last_attempt_by_step(read_events(tmp_path, "trainer"), "step")
    assert [event["step"] for event in kept] == [0, 1]
    second.write("step", step=2, loss_d2=2.0)
    second.write("checkpoint", step=3)
    kept = last_attempt_by_step(read_events(tmp_path, "trainer"), "step")
    assert [(event["step"], event["attempt"]) for event in kept] == [(0, 1), (1, 1), (2, 2)]


def test_a_group_of_workers_that_came_back_within_an_attempt_takes_its_steps_anew(
    tmp_path: Path,
) -> None:
    log = make_log(tmp_path)
    log.write("start", step=0)
    for step in (0, 1, 2):
        log.write("step", step=step, loss_d2=1.0)
    log.write("start", step=1)
    log.write("step", step=1, loss_d2=2.0)
    kept = last_attempt_by_step(read_events(tmp_path, "trainer"), "step")
    assert [(event["step"], event["loss_d2"]) for event in kept] == [(0, 1.0), (1, 2.0)]


def test_a_run_that_was_taken_back_shows_nothing_beyond_that_step(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for step in (0, 1, 2):
        log.write("step", step=step, loss_d2=1.0)
    log.write("rewound", step=1)
    kept = last_attempt_by_step(read_events(tmp_path, "trainer"))
    assert [event["step"] for event in kept] == [0]


def test_what_a_run_gave_up_when_it_was_taken_back_stands_no_more(tmp_path: Path) -> None:
    log = EventLog(tmp_path, "miner", attempt=1)
    for step in (0, 10, 20):
        log.write("published", checkpoint_step=step, generation=step // 10)
    log.write("failed", reason="held")
    log.write("rewound", step=10)
    log.write("published", checkpoint_step=20, generation=2)
    kept = standing(read_events(tmp_path, "miner"))
    assert [e.get("checkpoint_step") for e in kept] == [0, 10, None, 20]


def test_a_step_stands_where_the_run_was_taken_back_to_its_end(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for step in range(4):
        log.write("checkpoint", step=step)
        log.write("step", step=step)
    log.write("rewound", step=2)
    kept = standing(read_events(tmp_path, "trainer"))
    assert [e["step"] for e in kept if e["event"] == "step"] == [0, 1]
    assert [e["step"] for e in kept if e["event"] == "checkpoint"] == [0, 1, 2]


def test_a_tail_returns_each_complete_line_once(tmp_path: Path) -> None:
    tail = EventTail(tmp_path, "trainer")
    assert tail.new() == []
    log = make_log(tmp_path)
    for step in (0, 1):
        log.write("step", step=step)
    assert [event["step"] for event in tail.new()] == [0, 1]
    assert tail.new() == []
    path = tmp_path / "trainer.jsonl"
    with path.open("a") as file:
        file.write('{"step": 2, ')
    assert tail.new() == []
    with path.open("a") as file:
        file.write('"event": "step"}\n')
    assert [event["step"] for event in tail.new()] == [2]


def test_a_tail_may_begin_near_the_end(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for step in range(9):
        log.write("step", step=step)
    line = (tmp_path / "trainer.jsonl").stat().st_size // 9
    tail = EventTail(tmp_path, "trainer", last_bytes=2 * line + 5)
    assert [event["step"] for event in tail.new()] == [7, 8]
    log.write("step", step=9)
    assert [event["step"] for event in tail.new()] == [9]
    assert len(EventTail(tmp_path, "trainer", last_bytes=10_000).new()) == 10
    assert EventTail(tmp_path, "miner", last_bytes=10).new() == []


def test_an_absent_log_has_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path, "miner") == []


def test_every_line_is_json(tmp_path: Path) -> None:
    make_log(tmp_path).write("step", step=1, loss_d2=float("inf"))
    for line in (tmp_path / "trainer.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))


def test_field_names_are_stage_slash_name_with_a_meaning() -> None:
    stages = {"ingest", "trainer", "miner", "queue", "driver"}
    for name, meaning in FIELDS.items():
        assert name.split("/")[0] in stages and name.count("/") == 1
        assert meaning
