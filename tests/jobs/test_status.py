from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.events import EventLog
from datasets.lock import WriterLock
from datasets.run_dir import RunDir
from datasets.snapshots import read_snapshot
from jobs.cli import main
from jobs.config import RunConfig
from jobs.runs_on_disk import open_run
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


def shown(run: RunDir, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["status", "--runs", str(run.root.parent)]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_run_whose_driver_was_killed_is_stopped(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    with WriterLock(run.driver_lock):
        assert "starting" in shown(run, capsys)
    assert "stopped" in shown(run, capsys)


def test_the_snapshot_that_is_mined_is_shown_where_it_is_another(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "mining" not in shown(run, capsys)
    publish_rows(run, 0, np.zeros((4, 3), np.int64), snapshot=3)
    assert "1, mining snapshot 3" in shown(run, capsys)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", '{"trainer": {"stpes": 3}}', "did you mean trainer.steps?"),
        ("config.json", "[]", "holds no table of settings"),
        ("faces.json", "{}", "faces.json does not name a snapshot"),
        ("events/trainer.jsonl", '{"event": "step", "time": 1}\n', "a file lacks 'step'"),
    ],
)
def test_a_run_that_cannot_be_read_does_not_hide_the_others(
    run: RunDir, capsys: pytest.CaptureFixture[str], file: str, text: str, words: str
) -> None:
    other = start(run.root.parents[1], "second")
    (run.root / file).write_text(text)
    printed = shown(other, capsys)
    assert "first unreadable second stopped 0/400" in printed
    assert words in printed.partition(" first: ")[2]


def test_a_refresh_that_was_cut_off_is_counted(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    log = EventLog(run.events, "miner", attempt=1)
    log.write("begin", checkpoint_step=0, generation=0)
    assert "failed" not in shown(run, capsys)
    log.write("begin", checkpoint_step=0, generation=0)
    assert "0 (1 failed)" in shown(run, capsys)
