from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from datasets.events import EventLog
from jobs.config import RunConfig
from jobs.runs_on_disk import absolute, open_run, read_run


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(name="x", runs=tmp_path / "runs", faces=tmp_path / "faces")


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
    [("trainer", "batch", 32), ("miner", "margin", 0.4), ("refresh", "carry_over", 0.5)],
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
