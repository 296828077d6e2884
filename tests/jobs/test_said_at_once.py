"""What can be refused before Ray starts, before ingest and before anything is written."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from facequarry.datasets.disk.lock import LockHeld, WriterLock, is_held
from facequarry.datasets.faces.snapshots import read_snapshot
from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs import pipeline
from facequarry.jobs.cli import main
from facequarry.jobs.cluster import NoCluster, check_answers
from facequarry.jobs.config import RunConfig, to_tree
from facequarry.jobs.state.runs_on_disk import (
    Attempt,
    absolute,
    check_run,
    last_attempt,
    open_run,
)
from facequarry.jobs.state.setting_changes import changed_settings
from facequarry.jobs.verbs.run import parse_run
from facequarry.miner.queue.queue import QueueMismatch
from facequarry.trainer.checkpoints.checkpoint import publish_checkpoint
from tests.datasets.photos import publish_plainly, write_tree
from tests.jobs.journals import grant


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run whose Ray may not be started."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started, or photos were looked at")

    monkeypatch.setattr(pipeline, "ray_cluster", refuse)
    monkeypatch.setattr(pipeline, "Ingest", refuse)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    publish_plainly(write_tree(tmp_path / "photos", {"a": 3, "b": 2}), tmp_path / "faces")
    return RunConfig(
        name="x", runs=tmp_path / "runs", faces=tmp_path / "faces", photos=tmp_path / "photos"
    )


def flags(config: RunConfig) -> list[str]:
    return ["--name", "x", "--runs", str(config.runs), "--faces", str(config.faces)]


def started(config: RunConfig) -> RunDir:
    run, _ = open_run(absolute(config), read_snapshot(config.faces), resume=False)
    return run


def checkpoint(run: RunDir, step: int) -> None:
    run.checkpoint(step).mkdir(parents=True)
    (run.checkpoint(step) / "manifest.json").write_text("{}")
    grant(run, step - 1)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--cluster.trainer-cpus", "4096"], "this machine has"),
        (["--cluster.num-cpus", "1"], "ask for 2 CPUs, this machine has 1"),
        (["--trainer.use-gpu", "--cluster.trainer-cpus", "0.1"], "GPUs, this machine has 0"),
        (["--cluster.trainer-cpus", "nan"], "cluster.trainer_cpus is nan"),
        (["--refresh.rows-per-step", "inf"], "refresh.rows_per_step is inf"),
        (["--miner.positive-cap", "nan"], "positive_cap"),
        (["--resume-from", "soon"], "expected the step of a checkpoint"),
        (["--resume-from"], "--resume-from needs the step"),
    ],
)
def test_what_can_never_work_is_refused_with_2(
    config: RunConfig,
    more: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    photos = ["--photos", str(config.photos)]
    assert main(["run", *flags(config), *photos, *more]) == 2
    assert words in capsys.readouterr().err
    assert not config.runs.exists()


def test_a_second_driver_is_told_so_and_fails(
    config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run = started(config)
    checkpoint(run, 0)
    with WriterLock(run.driver_lock):
        with pytest.raises(LockHeld):
            pipeline.run_pipeline(config, resume=True)
        assert main(["train", "--run", str(run.root)]) == 1
    assert "wait for it to end" in capsys.readouterr().err


def test_a_new_run_that_another_process_is_starting_is_left_to_it(config: RunConfig) -> None:
    with WriterLock(RunDir(config.runs / "x").driver_lock), pytest.raises(LockHeld):
        pipeline.run_pipeline(config)


@pytest.mark.parametrize("verb", ["run", "train", "mine", "evaluate"])
def test_a_run_of_a_newer_schema_is_refused(
    verb: str, config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run = started(config)
    run.config.write_text(json.dumps({"schema_version": 99, "tomorrow": {}}))
    more = ["--resume", *flags(config)] if verb == "run" else ["--run", str(run.root)]
    assert main([verb, *more]) == 2
    assert "schema_version 99" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changed",
    [
        lambda config: replace(config, seed=1),
        lambda config: replace(config, trainer=replace(config.trainer, batch=32)),
    ],
)
def test_another_batch_or_seed_names_the_run_and_the_way_out(
    config: RunConfig, changed: Callable[[RunConfig], RunConfig]
) -> None:
    started(config)
    with pytest.raises(ValueError, match=r"runs/x was started with .* now it is .* --name"):
        pipeline.run_pipeline(changed(config), resume=True)


def test_steps_may_grow_only_where_no_schedule_depends_on_them(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(config)
    longer = replace(config, trainer=replace(config.trainer, steps=900))
    check_run(absolute(longer), resume=True)

    def with_a_schedule(each: RunConfig) -> dict[str, Any]:
        tree = to_tree(each)
        return {**tree, "trainer": {**tree["trainer"], "schedule": "cosine"}}

    monkeypatch.setattr("facequarry.jobs.state.runs_on_disk.to_tree", with_a_schedule)
    with pytest.raises(ValueError, match=r"trainer.steps = 400, now it is 900"):
        check_run(absolute(longer), resume=True)


def test_an_address_where_nothing_listens_is_said_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # bound and not listening: connections are refused
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            with pytest.raises(NoCluster, match="ray start --head"):
                check_answers(address)
        taken.listen()
        check_answers(f"127.0.0.1:{port}")
    check_answers("auto")


def test_a_step_without_a_checkpoint_names_those_that_there_are(config: RunConfig) -> None:
    run = started(config)
    checkpoint(run, 0)
    checkpoint(run, 50)
    with pytest.raises(ValueError, match="no checkpoint of step 70 .* there are 0, 50"):
        check_run(absolute(config), resume=True, resume_from=70)


def test_an_earlier_checkpoint_may_be_gone_on_from_with_fewer_steps(config: RunConfig) -> None:
    run = started(config)
    for step in (0, 50, 100):
        checkpoint(run, step)
    shorter = absolute(replace(config, trainer=replace(config.trainer, steps=60)))
    with pytest.raises(ValueError, match="give 100 or more"):
        check_run(shorter, resume=True)
    check_run(shorter, resume=True, resume_from=50)


def test_a_run_is_rewound_under_its_drivers_lock_before_the_attempt_begins(
    config: RunConfig,
) -> None:
    run, config = started(config), absolute(config)
    for step in (0, 50, 100):
        publish_checkpoint(
            run,
            step,
            nn.Linear(2, 2),
            backbone="compact",
            embedding_dim=2,
            crop_px=32,
            trainer_state={},
        )
    grant(run, 99)
    faces = read_snapshot(config.faces)

    def driven() -> AbstractContextManager[Attempt]:
        return pipeline.driving(config, run, faces, resume=True, resume_from=50)

    with WriterLock(run.driver_lock), pytest.raises(LockHeld), driven():
        pass
    assert run.checkpoint_steps() == [0, 50, 100]
    with driven() as attempt:
        assert run.checkpoint_steps() == [0, 50]
        assert is_held(run.driver_lock)
    rewound, begun = read_events(run.events, "trainer")[-1], read_events(run.events, "driver")[0]
    assert (rewound["event"], rewound["step"]) == ("rewound", 50)
    assert begun["event"] == "start" and rewound["time"] <= begun["time"]
    assert (attempt.number, last_attempt(run)) == (2, 2)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ('{"record": "granted", "through_step": "x"}', "queue.jsonl line 2 is damaged"),
        ('{"record": "gran', "restore the file, train again from the start"),
    ],
)
def test_a_damaged_journal_is_said_before_anything_is_started(
    config: RunConfig, record: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = started(config)
    checkpoint(run, 50)
    opened = {"record": "open", "batch": config.trainer.batch, "carry_over": 0.0, "seed": 0}
    journal = f"{json.dumps(opened)}\n{record}\n"
    run.queue_journal.write_text(journal)
    assert main(["train", "--run", str(run.root)]) == 2
    assert words in capsys.readouterr().err
    assert run.queue_journal.read_text() == journal


def test_a_journal_of_other_settings_is_said_before_anything_is_started(config: RunConfig) -> None:
    run = started(config)
    checkpoint(run, 50)
    run.queue_journal.write_text('{"record": "open", "batch": 7, "carry_over": 0.0, "seed": 0}\n')
    with pytest.raises(QueueMismatch, match="was granted with batch 7"):
        check_run(absolute(config), resume=True)


def test_a_torn_last_record_is_no_damage_and_stays_for_the_queue(config: RunConfig) -> None:
    run = started(config)
    checkpoint(run, 50)
    torn = run.queue_journal.read_text() + '{"record": "gr'
    run.queue_journal.write_text(torn)
    check_run(absolute(config), resume=True)
    assert run.queue_journal.read_text() == torn


def test_a_training_that_is_complete_asks_for_more_steps(
    config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run = started(config)
    checkpoint(run, 400)
    assert main(["train", "--run", str(run.root)]) == 2
    assert "is at its last step, 400; give more with --steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("steps", "words"),
    [("5", "is beyond step 5, at 50; give more with --steps"), ("-1", "--steps is -1, it must be")],
)
def test_steps_that_lie_behind_are_said_to_be_that(
    config: RunConfig, steps: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = started(config)
    checkpoint(run, 50)
    assert main(["train", "--run", str(run.root), f"--steps={steps}"]) == 2
    assert words in capsys.readouterr().err


def test_what_a_resume_changes_is_said_setting_by_setting(config: RunConfig) -> None:
    config = absolute(config)
    assert changed_settings(config) == []
    started(config)
    assert changed_settings(config) == []
    longer = replace(config, seed=1, trainer=replace(config.trainer, steps=900))
    assert changed_settings(longer) == ["trainer.steps: 400 before, now 900"]


def test_resume_from_implies_resume_and_travels_with_a_job() -> None:
    command = parse_run(["--resume-from=20", "--name", "x"])
    assert (command.resume, command.resume_from, command.config.name) == (True, 20, "x")
    assert command.resume_flags() == ["--resume-from", "20"]
    assert parse_run(["--resume"]).resume_flags() == ["--resume"]
    assert parse_run([]).resume_flags() == []
