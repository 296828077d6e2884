"""Status, page, closing report and record say the same of every kind of run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from facequarry.dashboards.facts.headline import tiles
from facequarry.dashboards.facts.read import read_run as read_page
from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.disk.publish import write_json
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.record import read_record
from facequarry.datasets.runs.refreshes import Refresh
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import RunConfig, to_tree
from facequarry.jobs.reports import report
from facequarry.jobs.reports.report import RunReport
from facequarry.jobs.state.run_state import read_state
from facequarry.jobs.state.runs_on_disk import read_run
from tests.datasets.photos import publish_plainly, write_tree
from tests.trainer.stores import publish_rows


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    photos = write_tree(tmp_path / "photos", {f"n{number}": 3 for number in range(4)})
    publish_plainly(photos, tmp_path / "faces")
    run = RunDir(tmp_path / "runs" / "x")
    config = RunConfig(name="x", runs=tmp_path / "runs", faces=tmp_path / "faces")
    config = replace(config, trainer=replace(config.trainer, steps=40, checkpoint_every=10))
    write_json(run.config, {"schema_version": 1, **to_tree(config)})
    write_json(run.faces, {"schema_version": 1, "snapshot": 1})
    return run


class Writers:
    """The logs of one attempt."""

    def __init__(self, run: RunDir, attempt: int, began: float) -> None:
        self.now = began

        def clock() -> float:
            return self.now

        self.driver, self.trainer, self.miner, self.queue = (
            EventLog(run.events, who, attempt=attempt, clock=clock)
            for who in ("driver", "trainer", "miner", "queue")
        )
        self.driver.write("start", command="facequarry run")

    def step(self, step: int, wait_s: float = 0.1) -> None:
        self.now += 1
        self.trainer.write(
            "step",
            step=step,
            loss_d2=0.1,
            in_band_share=0.5,
            generation=0,
            staleness_steps=step,
            step_s=1.0,
            wait_s=wait_s,
            num_triplets=3,
            repeats=0,
            active_share=0.9,
            now_hard_share=0.2,
            now_easy_share=0.3,
        )

    def mine(self, number: int, step: int) -> None:
        self.miner.write("begin", checkpoint_step=step, generation=number)
        self.now += 1
        self.miner.write("published", checkpoint_step=step, generation=number, rows=9)


def never_mined(run: RunDir) -> None:
    Writers(run, 1, 100.0)


def finished(run: RunDir) -> None:
    writers = Writers(run, 1, 100.0)
    writers.mine(0, 0)
    for step in range(40):
        writers.step(step)
    writers.driver.write("end", seconds=42.0, reason="done")


def interrupted(run: RunDir) -> None:
    writers = Writers(run, 1, 100.0)
    writers.mine(0, 0)
    writers.step(0)
    writers.miner.write("begin", checkpoint_step=10, generation=1)
    writers.driver.write("end", seconds=2.0, reason="interrupted")


def failed_refreshes(run: RunDir) -> None:
    writers = Writers(run, 1, 100.0)
    for number in (0, 0):
        writers.miner.write("begin", checkpoint_step=0, generation=number)
    writers.now += 1
    writers.miner.write("failed", reason="OSError: disk full")  # the first one's miner was killed
    writers.miner.write("failed", reason="the lock's disk")  # beside any refresh
    writers.mine(0, 0)
    writers.step(0)


def resumed(run: RunDir) -> None:
    first = Writers(run, 1, 100.0)
    first.mine(0, 0)
    first.step(0, wait_s=9.0)
    first.miner.write("begin", checkpoint_step=10, generation=1)  # killed with all the rest
    second = Writers(run, 2, 5000.0)
    second.trainer.write("start", step=1, resumed_step=1, world_size=1)
    second.step(1, wait_s=0.9)
    second.miner.write("begin", checkpoint_step=10, generation=1)


def killed_unlogged(run: RunDir) -> None:
    writers = Writers(run, 1, 100.0)
    writers.mine(0, 0)
    writers.step(0)
    writers.miner.write("begin", checkpoint_step=10, generation=1)
    publish_rows(run, 1, np.zeros((4, 3), np.int64), mined_at_step=10)  # killed before it was said


def complete(run: RunDir) -> None:
    writers = Writers(run, 1, 100.0)
    writers.mine(0, 0)
    for step in range(40):
        writers.step(step)
    writers.miner.write("begin", checkpoint_step=30, generation=1)  # its miner ends with training


def told(refresh: Refresh | None) -> Refresh | None:
    """Return a refresh without its end, which is the moment of looking while it is at work."""
    return refresh and replace(refresh, ended_s=0.0)


MADE = [
    never_mined,
    finished,
    interrupted,
    failed_refreshes,
    resumed,
    killed_unlogged,
    complete,
]


def report_of(run: RunDir) -> RunReport:
    faces: Any = SimpleNamespace(first=SimpleNamespace(num_identities=4, num_faces=12, rejects={}))
    evaluation: Any = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw", lambda *_: {})
        return report.make_report(read_run(run), run, faces, evaluation, evaluation)


@pytest.mark.parametrize("is_driven", [False, True])
@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
def test_all_readers_agree(run: RunDir, make: Callable[[RunDir], None], is_driven: bool) -> None:
    make(run)
    with WriterLock(run.driver_lock) if is_driven else contextlib.nullcontext():
        record, page, status = read_record(run), read_page(run.root), read_state(run)
        closing = report_of(run)
    assert page.state == status.state == record.state
    assert [told(each) for each in page.refreshes] == [told(each) for each in record.refreshes]
    assert page.is_alive == record.is_alive
    (shown,) = (tile for tile in tiles(page) if tile.label == "Refreshes")
    published, failed = record.num_published, record.failed_refreshes
    assert (shown.value, shown.below) == (f"{published}", f"{failed} failed")
    assert (status.refreshes, status.failed_refreshes) == (published, failed)
    assert (closing.refreshes, closing.failed_refreshes) == (published, failed)
    assert told(status.refresh) == told(record.in_hand)
    assert page.wait_share == closing.wait_share == record.wait_share
    bounds = {page.staleness_bound_steps, status.staleness_bound_steps}
    assert bounds == {record.staleness_bound_steps}
    assert closing.staleness_bound_steps == (record.staleness_bound_steps or 0)


@pytest.mark.parametrize(
    ("make", "is_driven", "state", "failed", "outcomes"),
    [
        (never_mined, True, "starting", 0, []),
        (never_mined, False, "killed", 0, []),
        (finished, True, "done", 0, ["published"]),
        (interrupted, False, "stopped", 0, ["published", "cut off"]),
        (failed_refreshes, True, "training", 2, ["failed", "failed", "published"]),
        (resumed, True, "training", 0, ["published", "cut off", "running"]),
        (resumed, False, "killed", 0, ["published", "cut off", "cut off"]),
        (killed_unlogged, True, "training", 0, ["published", "published"]),
        (killed_unlogged, False, "killed", 0, ["published", "published"]),
        (complete, True, "evaluating", 0, ["published", "cut off"]),
    ],
)
def test_what_they_say(
    run: RunDir,
    make: Callable[[RunDir], None],
    is_driven: bool,
    state: str,
    failed: int,
    outcomes: list[str],
) -> None:
    make(run)
    with WriterLock(run.driver_lock) if is_driven else contextlib.nullcontext():
        record = read_record(run)
    assert (record.state, record.failed_refreshes) == (state, failed)
    assert [refresh.outcome for refresh in record.refreshes] == outcomes


def test_the_first_step_of_each_start_is_no_waiting(run: RunDir) -> None:
    for attempt, first in ((1, 0), (2, 2)):
        writers = Writers(run, attempt, 1000.0 * attempt)
        writers.trainer.write("start", step=first, resumed_step=first, world_size=1)
        writers.step(first, wait_s=0.9)
        writers.step(first + 1, wait_s=0.25)
    assert read_record(run).wait_share == pytest.approx(0.25)


def test_what_an_older_config_leaves_out_has_its_default(run: RunDir) -> None:
    finished(run)
    bound = read_record(run).staleness_bound_steps
    bare = {"schema_version": 1, "trainer": {"steps": 40, "checkpoint_every": 10}}
    write_json(run.config, bare, replace=True)
    assert read_record(run).staleness_bound_steps == bound is not None


def test_a_live_run_has_a_bound_as_soon_as_it_trains(run: RunDir) -> None:
    failed_refreshes(run)
    with WriterLock(run.driver_lock):
        page = read_page(run.root)
    assert page.is_alive and page.staleness_bound_steps is not None
