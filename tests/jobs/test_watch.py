from __future__ import annotations

import io
from pathlib import Path

import pytest

from facequarry.datasets.disk.progress import Progress
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.watch import Watch


def test_the_words_of_the_progress_are_explained_and_only_new_steps_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path)
    for attempt, step in ((1, 8), (2, 5)):
        EventLog(run.events, "trainer", attempt=attempt).write(
            "step", step=step, loss_d2=0.5, in_band_share=0.25, staleness_steps=3, faces_per_s=9.0
        )
    with Watch(run, attempt=2, steps=10, check=lambda: None) as watch:
        watch.say("training worker 0 was lost; restart 1 of at most 3")
    shown = capsys.readouterr().err
    assert shown.startswith("train: still semi-hard: share of a step's triplets")
    assert "train: training worker 0 was lost; restart 1 of at most 3\n" in shown
    assert "train 6/10 steps" in shown and "9/10" not in shown


def test_the_rate_begins_anew_where_a_restart_takes_steps_again() -> None:
    stream, now = io.StringIO(), [0.0]
    with Progress(
        "train", total=100, unit="steps", stream=stream, every_s=0, clock=lambda: now[0]
    ) as progress:
        for at, done in ((0.0, 40), (1.0, 50), (20.0, 44), (22.0, 48)):
            now[0] = at
            progress.update(done)
    assert stream.getvalue().splitlines()[-1] == "train 48/100 steps | 2 steps/s | eta 26 s"
