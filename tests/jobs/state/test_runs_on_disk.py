from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facequarry.datasets.faces.snapshots import read_snapshot
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import RunConfig
from facequarry.jobs.state import runs_on_disk
from facequarry.jobs.state.plans import check_split, faces_of
from facequarry.jobs.state.runs_on_disk import (
    absolute,
    check_run,
    pinned_snapshot,
    read_run,
    snapshots_of,
)
from facequarry.miner.queue.journal import CorruptJournal
from facequarry.trainer.batch.run_faces import RunFaces
from facequarry.trainer.evaluation.face_pairs import verification_pairs
from facequarry.trainer.job import TrainJob
from tests.datasets.photos import publish_plainly, write_tree
from tests.jobs.journals import grant
from tests.trainer.stores import RandomSource, publish_rows


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    publish_plainly(write_tree(tmp_path / "photos", {"a": 3, "b": 2}), tmp_path / "faces")
    return RunConfig(name="x", runs=tmp_path / "runs", faces=tmp_path / "faces")


def open_run(config: RunConfig, *, resume: bool) -> tuple[RunDir, int]:
    return runs_on_disk.open_run(config, read_snapshot(config.faces), resume=resume)


def test_the_resolved_configuration_is_saved(config: RunConfig) -> None:
    run, attempt = open_run(config, resume=False)
    assert attempt == 1
    assert read_run(run) == config


def test_attempts_are_counted(config: RunConfig) -> None:
    run, attempt = open_run(config, resume=False)
    EventLog(run.events, "driver", attempt=attempt).write("start")
    assert open_run(config, resume=True)[1] == 2
    EventLog(run.events, "driver", attempt=2).write("start")
    assert open_run(config, resume=True)[1] == 3


def test_steps_may_grow_on_resume(config: RunConfig) -> None:
    open_run(config, resume=False)
    open_run(replace(config, trainer=replace(config.trainer, steps=900)), resume=True)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("trainer", "batch", 32),
        ("miner", "margin", 0.4),
        ("refresh", "carry_over", 0.5),
        ("refresh", "snapshots", "pinned"),
    ],
)
def test_what_decides_the_rows_cannot_change(
    config: RunConfig, section: str, key: str, value: object
) -> None:
    open_run(config, resume=False)
    changed = replace(config, **{section: replace(getattr(config, section), **{key: value})})
    with pytest.raises(ValueError, match=f"{section}.{key}"):
        open_run(changed, resume=True)


def test_the_seed_cannot_change(config: RunConfig) -> None:
    open_run(config, resume=False)
    with pytest.raises(ValueError, match="seed = 0, now it is 1"):
        open_run(replace(config, seed=1), resume=True)


def test_parts_of_a_run_without_its_configuration_are_left_alone(config: RunConfig) -> None:
    (config.runs / "x" / "checkpoints").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="another --name"):
        open_run(config, resume=False)


def test_paths_become_absolute() -> None:
    config = absolute(RunConfig(photos=Path("photos")))
    assert config.photos is not None
    assert all(path.is_absolute() for path in (config.runs, config.faces, config.photos))


def test_a_run_stays_with_the_faces_that_it_started_with(config: RunConfig, tmp_path: Path) -> None:
    run, _ = open_run(config, resume=False)
    started_with = read_snapshot(config.faces).number
    publish_plainly(write_tree(tmp_path / "photos", {"c": 2}), config.faces)
    assert read_snapshot(config.faces).number == started_with + 1
    assert pinned_snapshot(config, run) == started_with


def test_random_triplets_and_evaluated_pairs_stay_with_the_first_snapshot(
    config: RunConfig, tmp_path: Path
) -> None:
    photos = write_tree(tmp_path / "photos", {f"person{number}": 4 for number in range(20)})
    publish_plainly(photos, config.faces)
    run, _ = open_run(config, resume=False)
    job = TrainJob(
        config=config.trainer,
        run=run,
        faces=faces_of(config, run),
        split=config.split,
        source=RandomSource(8),
        margin=0.2,
        seed=0,
        attempt=1,
        batch_timeout_s=60,
    )

    def drawn() -> list[np.ndarray]:
        store = faces_of(config, run).open()
        held_out = check_split(config, store)
        pairs = verification_pairs(store.identity_index[held_out], max_pairs=50, seed=0)
        random = job.random_triplets(RunFaces(faces_of(config, run)).store)
        return [held_out, pairs.left, pairs.right, random.rows(7, 100)]

    before = drawn()
    publish_plainly(write_tree(photos, {f"later{n}": 4 for n in range(20)}), config.faces)
    assert read_snapshot(config.faces).number == 3
    assert all(np.array_equal(*both) for both in zip(before, drawn(), strict=True))


def test_the_snapshot_that_is_mined_is_named_where_it_is_another(
    config: RunConfig, tmp_path: Path
) -> None:
    run, _ = open_run(config, resume=False)
    assert snapshots_of(run) == "1"
    publish_rows(run, 0, np.zeros((4, 3), np.int64))
    assert snapshots_of(run) == "1"
    publish_rows(run, 1, np.zeros((4, 3), np.int64), snapshot=3)
    assert snapshots_of(run) == "1, mining snapshot 3"


def test_a_resume_without_the_snapshot_that_was_mined_is_refused(config: RunConfig) -> None:
    run, _ = open_run(config, resume=False)
    publish_rows(run, 0, np.zeros((4, 3), np.int64), snapshot=2)
    with pytest.raises(FileNotFoundError, match="mined snapshot 2, .* ends at snapshot 1"):
        open_run(config, resume=True)


def test_other_faces_are_refused_on_resume(config: RunConfig, tmp_path: Path) -> None:
    run, _ = open_run(config, resume=False)
    publish_plainly(write_tree(tmp_path / "others", {"a": 2, "b": 3}), tmp_path / "other")
    with pytest.raises(ValueError, match="does not hold the faces"):
        pinned_snapshot(replace(config, faces=tmp_path / "other"), run)


def test_faces_may_move(config: RunConfig, tmp_path: Path) -> None:
    run, _ = open_run(config, resume=False)
    config.faces.rename(tmp_path / "moved")
    moved = replace(config, faces=tmp_path / "moved")
    assert pinned_snapshot(moved, run) == read_snapshot(moved.faces).number


def test_a_lost_journal_and_fewer_steps_than_were_made_are_refused(config: RunConfig) -> None:
    run, _ = open_run(config, resume=False)
    for step in (0, 200):
        run.checkpoint(step).mkdir(parents=True)
        (run.checkpoint(step) / "manifest.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="which rows the steps up to 200 got is lost"):
        open_run(config, resume=True)
    for text in ("", '{"record": "op'):
        run.queue_journal.write_text(text)
        with pytest.raises(CorruptJournal, match="grants no step.*trained on more.*restore"):
            open_run(config, resume=True)
    check_run(config, resume=True, resume_from=0)
    run.queue_journal.unlink()
    grant(run, 198)
    with pytest.raises(CorruptJournal, match="ends at step 198, and the checkpoint of step 200"):
        open_run(config, resume=True)
    grant(run, 199)
    with pytest.raises(ValueError, match="give 200 or more"):
        open_run(replace(config, trainer=replace(config.trainer, steps=100)), resume=True)


def test_the_configuration_of_the_last_attempt_is_saved(config: RunConfig) -> None:
    run, _ = open_run(config, resume=False)
    longer = replace(config, trainer=replace(config.trainer, steps=900))
    open_run(longer, resume=True)
    assert read_run(run) == longer


def test_what_a_killed_attempt_staged_is_swept(config: RunConfig) -> None:
    run, _ = open_run(config, resume=False)
    (run.checkpoints / ".staging-host-1-aa-step").mkdir(parents=True)
    open_run(config, resume=True)
    assert list(run.checkpoints.iterdir()) == []
