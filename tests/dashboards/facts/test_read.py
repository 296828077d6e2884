"""Events and manifests come back as they were written, whatever state the run is in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facequarry.dashboards.facts.read import list_runs, read_run, signature
from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from tests.dashboards.made_run import (
    BEGAN,
    EVERY,
    FACES,
    STEP_S,
    STEPS,
    Clock,
    begin_run,
    log_step,
    refresh,
)


def test_steps_come_back_as_arrays(made: RunDir) -> None:
    steps = read_run(made.root).steps
    assert np.array_equal(steps.step, np.arange(STEPS))
    assert np.allclose(steps.loss_d2, 0.2 - 0.002 * np.arange(STEPS))
    assert steps.staleness_steps[[0, 23, 24]].tolist() == [0, 23, 4]
    assert np.allclose(np.diff(steps.at_s), STEP_S)


def test_refreshes_know_their_outcome_and_who_consumed_them(made: RunDir) -> None:
    refreshes = read_run(made.root).refreshes
    assert [r.outcome for r in refreshes] == ["published", "published", "failed", "published"]
    assert [r.first_step for r in refreshes] == [0, 24, None, 44]
    assert refreshes[2].reason == "disk <full>"
    assert refreshes[0].seconds == {"embed": 1.0, "mine": 0.5, "publish": 0.1}
    assert refreshes[0].refresh_s == pytest.approx(1.6)
    counts = refreshes[0].counts
    assert counts["pairs"] == counts["semi_hard"] + counts["band_empty"] > 0


def test_a_finished_run_is_done_and_complete(made: RunDir) -> None:
    facts = read_run(made.root)
    assert (facts.state, facts.reason, facts.staleness_bound_steps) == ("done", "", 46)
    assert facts.generations == (0, 1, 2)
    assert [evaluation["step"] for evaluation in facts.evaluations] == [0, STEPS]
    assert facts.faces is not None
    assert (facts.faces.num_faces, facts.faces.rejects) == (FACES, {"no_face": 2})
    assert (facts.settings.steps, facts.settings.checkpoint_every) == (STEPS, EVERY)


def test_a_run_that_has_only_just_started_is_empty(runs: Path) -> None:
    run = begin_run(runs, "new")
    with WriterLock(run.driver_lock):
        facts = read_run(run.root)
    assert (len(facts.steps), facts.refreshes, facts.generations) == (0, (), ())
    assert (facts.evaluations, facts.faces, facts.attempts) == ((), None, 0)
    assert (facts.state, facts.is_alive, facts.staleness_bound_steps) == ("starting", True, None)


def test_a_torn_last_line_is_left_out(runs: Path) -> None:
    run = begin_run(runs, "torn")
    log = EventLog(run.events, "trainer", attempt=1, clock=Clock())
    log_step(log, 0)
    with (run.events / "trainer.jsonl").open("a") as file:
        file.write('{"time": 1, "attempt": 1, "event": "st')
    assert read_run(run.root).steps.step.tolist() == [0]
    EventLog(run.events, "trainer", attempt=2, clock=Clock()).write(
        "start", step=1, resumed_step=1, world_size=1
    )
    assert read_run(run.root).steps.step.tolist() == [0]


def test_steps_after_the_checkpoint_of_a_resume_are_taken_anew(runs: Path) -> None:
    run = begin_run(runs, "resumed")
    clock = Clock()
    first = EventLog(run.events, "trainer", attempt=1, clock=clock)
    for step in range(30):
        clock.at_step(step)
        log_step(first, step, 1.0)
    clock.now += 86_400
    second = EventLog(run.events, "trainer", attempt=2, clock=clock)
    second.write("start", step=20, resumed_step=20, world_size=1)
    clock.now += STEP_S
    log_step(second, 20, 2.0)
    facts = read_run(run.root, now=clock.now)
    assert facts.steps.step.tolist() == list(range(21))
    assert facts.steps.loss_d2[-2:].tolist() == [1.0, 2.0]
    # The day between the attempts is no time of the run.
    assert facts.elapsed_s == pytest.approx(29 * STEP_S + STEP_S)
    assert facts.attempts == 2


def test_a_refresh_without_an_end_is_at_work_or_was_cut_off(runs: Path) -> None:
    run = begin_run(runs, "cut")
    clock = Clock()
    log = EventLog(run.events, "miner", attempt=1, clock=clock)
    log.write("begin", checkpoint_step=0, generation=0)
    with WriterLock(run.driver_lock):
        for now in (BEGAN + 5, BEGAN + 3600):  # silence is no proof
            assert read_run(run.root, now=now).refreshes[0].outcome == "running"
    killed = read_run(run.root, now=BEGAN + 5)
    assert (killed.state, killed.refreshes[0].outcome) == ("killed", "cut off")
    refresh(run, 0, log, clock)
    first, second = read_run(run.root, now=clock.now).refreshes
    assert (first.outcome, first.reason) == ("failed", "its miner was killed")
    assert second.outcome == "published"


def test_a_failed_run_says_why(runs: Path) -> None:
    run = begin_run(runs, "failed")
    log = EventLog(run.events, "driver", attempt=1, clock=Clock())
    log.write("end", seconds=1.0, reason="RunFailed: no CUDA")
    facts = read_run(run.root)
    assert (facts.state, facts.reason) == ("failed", "RunFailed: no CUDA")


def test_a_run_that_finds_faces_is_alive_and_counts_them(runs: Path) -> None:
    run = begin_run(runs, "ingesting")
    clock = Clock()
    EventLog(run.events, "driver", attempt=1, clock=clock).write("start", command="run")
    clock.now += 600
    ingest = EventLog(runs.parent / "faces" / "events", "ingest", attempt=1, clock=clock)
    ingest.write("shard", photos=100, faces=90, rejects={"no_face": 10}, shards=1)
    with WriterLock(run.driver_lock):
        facts = read_run(run.root, now=clock.now + 30)
    assert (facts.state, facts.elapsed_s) == ("starting", 630)
    assert facts.faces is not None
    assert (facts.faces.num_faces, facts.faces.num_identities) == (90, None)
    assert facts.faces.rejects == {"no_face": 10}


def test_the_signature_changes_with_the_run(runs: Path) -> None:
    run = begin_run(runs, "growing")
    before = signature(run.root)
    log_step(EventLog(run.events, "trainer", attempt=1), 0)
    assert signature(run.root) != before == before


def test_runs_are_folders_with_a_configuration(runs: Path, made: RunDir) -> None:
    (runs / "notes").mkdir()
    assert list_runs(runs) == []
    assert list_runs(runs / "absent") == []
    begin_run(runs, "one")
    assert list_runs(runs) == ["one"]


def test_reading_imports_nothing_heavy() -> None:
    heavy = "torch ray faiss numba streamlit plotly"
    code = (
        "import sys, facequarry.dashboards.facts.read, facequarry.dashboards.facts.browse, "
        "facequarry.dashboards.facts.headline, facequarry.dashboards.drawing.markdown_tables; "
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
