from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.disk.publish import write_json
from facequarry.datasets.faces.snapshots import read_snapshot
from facequarry.datasets.ingest.faces_root import WRITER_LOCK
from facequarry.datasets.runs.clock import RunClock
from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.datasets.runs.record import read_record
from facequarry.datasets.runs.refreshes import read_refreshes
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.cli import main
from facequarry.jobs.config import RunConfig, to_tree
from facequarry.jobs.reports.report import rows_by_kind
from facequarry.jobs.state.run_state import read_state
from facequarry.jobs.state.runs_on_disk import open_run, read_run
from facequarry.miner.refresh.refresh_config import RefreshConfig
from tests.datasets.photos import publish_plainly, write_tree
from tests.trainer.stores import publish_rows


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run whose driver has started and logged no end."""
    publish_plainly(write_tree(tmp_path / "photos", {"a": 3, "b": 2}), tmp_path / "faces")
    return start(tmp_path, "first")


def start(folder: Path, name: str) -> RunDir:
    config = RunConfig(name=name, runs=folder / "runs", faces=folder / "faces")
    run, attempt = open_run(config, read_snapshot(config.faces), resume=False)
    EventLog(run.events, "driver", attempt=attempt).write("start")
    return run


def shown(run: RunDir, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert main(["status", "--runs", str(run.root.parent), *flags]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_run_whose_driver_logged_no_end_was_killed(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    with WriterLock(run.driver_lock):
        assert "starting" in shown(run, capsys)
    assert "killed" in shown(run, capsys)


def log_step(run: RunDir, step: int, *, time: float, attempt: int = 1) -> None:
    log = EventLog(run.events, "trainer", attempt=attempt, clock=lambda: time)
    figures = {"loss_d2": 0.125, "in_band_share": 0.4, "staleness_steps": step}
    log.write("step", step=step, generation=0, repeats=0, **figures)


@pytest.mark.parametrize(
    ("reason", "state"),
    [("done", "done"), ("interrupted", "stopped"), ("RunFailed: no faces left", "failed")],
)
def test_how_a_run_ended_is_its_state(run: RunDir, reason: str, state: str) -> None:
    EventLog(run.events, "driver", attempt=1).write("end", reason=reason)
    found = read_state(run)
    assert found.state == state
    assert found.reason == (reason if state == "failed" else "")


def test_a_run_that_waits_for_its_refresh_is_refreshing(run: RunDir) -> None:
    log_step(run, 0, time=10.0)
    with WriterLock(run.driver_lock):
        assert read_state(run).state == "training"
        miner = EventLog(run.events, "miner", attempt=1, clock=lambda: 11.0)
        miner.write("begin", checkpoint_step=0, generation=3)
        waiting = read_state(run)
        log_step(run, 1, time=12.0)
        training = read_state(run)
        log_step(run, 399, time=13.0)
        assert read_state(run).state == "evaluating"
    assert (waiting.state, training.state) == ("refreshing", "training")
    assert waiting.refresh is not None and waiting.refresh.since == 11.0
    assert read_state(run).refresh is None  # with its driver the refresh is gone


def test_the_rate_counts_the_steps_of_this_attempt_alone(run: RunDir) -> None:
    for step in range(5):
        log_step(run, step, time=float(step))
    for step in range(3, 8):
        log_step(run, step, time=1000.0 + step / 4, attempt=2)
    with WriterLock(run.driver_lock):
        state = read_state(run)
    assert state.steps_per_s == pytest.approx(4.0)
    assert state.eta_s == pytest.approx((400 - 8) / 4)
    assert read_state(run).eta_s is None  # nobody takes steps any more


def test_a_run_goes_on_from_one_attempt_to_the_next_without_a_rate_of_the_pause(
    run: RunDir,
) -> None:
    for step, time, attempt in ((0, 0.0, 1), (1, 1.0, 1), (2, 900.0, 2), (3, 900.5, 2)):
        log_step(run, step, time=time, attempt=attempt)
    with WriterLock(run.driver_lock):
        assert read_state(run).steps_per_s == pytest.approx(2.0)


def test_a_resumed_run_stands_where_it_went_on_from(run: RunDir) -> None:
    log_step(run, 70, time=1.0)
    assert read_state(run).step == 71
    EventLog(run.events, "trainer", attempt=2).write("start", step=50, resumed_step=50)
    assert read_state(run).step == 50


def test_one_run_is_shown_at_length_with_its_last_events(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    log_step(run, 7, time=10.0)
    publish_rows(run, 0, np.zeros((4, 3), np.int64))
    driver = EventLog(run.events, "driver", attempt=1)
    driver.write("restart", reason="training worker 0 was lost", restarts=1)
    printed = shown(run, capsys, "--run", "first")
    for words in (
        "8 of 400",
        "generation served, newest │ 0, 0",
        "lost groups of workers │ 1",
        "driver restart: reason training worker 0 was lost, restarts 1",
    ):
        assert words in printed


def test_the_reason_of_a_failed_run_is_a_line_of_its_own(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    EventLog(run.events, "driver", attempt=1).write("end", reason="RunFailed: no [faces] left")
    assert "first: RunFailed: no [faces] left" in shown(run, capsys)


def test_a_newer_schema_is_said_and_not_guessed_at(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    run.config.write_text('{"schema_version": 99, "new": {}}')
    assert "install a newer facequarry" in shown(run, capsys)


def test_the_snapshot_that_is_mined_is_shown_where_it_is_another(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "mining" not in shown(run, capsys, "--run", "first")
    publish_rows(run, 0, np.zeros((4, 3), np.int64), snapshot=3)
    assert "1, mining snapshot 3" in shown(run, capsys, "--run", "first")


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", '{"trainer": {"stpes": 3}}', "did you mean trainer.steps?"),
        ("config.json", "[]", "expected a JSON object"),
        ("faces.json", "{}", "faces.json does not name a snapshot"),
        ("events/trainer.jsonl", '{"event": "step", "time": 1}\n', "a file lacks 'attempt'"),
    ],
)
def test_a_run_that_cannot_be_read_does_not_hide_the_others(
    run: RunDir, capsys: pytest.CaptureFixture[str], file: str, text: str, words: str
) -> None:
    other = start(run.root.parents[1], "second")
    (run.root / file).write_text(text)
    printed = shown(other, capsys)
    assert "first unreadable second killed 0/400" in printed
    assert words in printed.partition(" first: ")[2]


def test_a_folder_whose_photos_are_ingested_is_shown_before_it_is_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = RunDir(tmp_path / "runs" / "demo")
    (demo.root / "faces").mkdir(parents=True)
    with WriterLock(demo.root / "faces" / WRITER_LOCK):
        assert "demo ingesting" in shown(demo, capsys)
    assert "demo no run yet demo: no config.json yet" in shown(demo, capsys)


def test_the_columns_are_explained_below_them(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "stale: their age < its bound so far" in shown(run, capsys)
    assert "stale: their age" not in shown(run, capsys, "--run", "first")


def test_a_refresh_that_was_cut_off_is_counted(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    log = EventLog(run.events, "miner", attempt=1)
    log.write("begin", checkpoint_step=0, generation=0)
    assert "failed" not in shown(run, capsys)
    log.write("begin", checkpoint_step=0, generation=0)
    assert "0 (1 failed)" in shown(run, capsys)


def test_a_refresh_that_an_earlier_attempt_left_is_not_in_hand(run: RunDir) -> None:
    EventLog(run.events, "miner", attempt=1).write("begin", checkpoint_step=0, generation=0)
    with WriterLock(run.driver_lock):
        assert read_state(run).refresh is not None
        EventLog(run.events, "driver", attempt=2).write("start")
        state = read_state(run)
        assert (state.refresh, state.state) == (None, "starting")
        EventLog(run.events, "miner", attempt=2).write("begin", checkpoint_step=4, generation=0)
        again = read_state(run).refresh
    assert again is not None and again.mined_at_step == 4


def test_the_bound_is_that_of_the_closing_table(run: RunDir) -> None:
    limited = RefreshConfig(max_staleness_steps=53, on_stale="wait")
    write_json(run.config, to_tree(replace(read_run(run), refresh=limited)), replace=True)
    log_step(run, 0, time=0.5)
    assert read_state(run).staleness_bound_steps == 54
    queue = EventLog(run.events, "queue", attempt=1)
    queue.write("switch", step=0, generation=0, first_step=0, rows=40, mined_at_step=0)
    queue.write("skipped", generation=1, reason="3 rows, one batch is 90")
    bound = read_record(run).staleness_bound_steps
    assert read_state(run).staleness_bound_steps == bound == 56


def test_refreshes_that_a_run_gave_up_are_counted_nowhere(run: RunDir) -> None:
    log = EventLog(run.events, "miner", attempt=1)
    for number in range(3):
        log.write("begin", checkpoint_step=10 * number, generation=number)
        log.write(
            "published",
            checkpoint_step=10 * number,
            generation=number,
            rows_by_kind={"semi_hard": 5, "easy": 0},
        )
        publish_rows(run, number, np.zeros((4, 3), np.int64))
    log.write("begin", checkpoint_step=30, generation=3)
    log.write("failed", checkpoint_step=30, generation=3, reason="OSError: disk full")
    assert (read_state(run).refreshes, read_state(run).failed_refreshes) == (3, 1)
    for number in (1, 2):
        shutil.rmtree(run.generation(number))
    log.write("rewound", step=0)
    state = read_state(run)
    assert (state.refreshes, state.failed_refreshes) == (1, 0)
    miner = read_events(run.events, "miner")
    assert rows_by_kind(miner) == {"semi_hard": 5}
    clock = RunClock(miner)
    assert [r.generation for r in read_refreshes(miner, [], clock, is_live=False)] == [0]
