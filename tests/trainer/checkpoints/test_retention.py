from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from facequarry.datasets.disk.publish import remove_published, sweep_staging, write_json
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.retire import remove_generation
from facequarry.trainer.checkpoints.retention import prune_checkpoints
from tests.miner.generations import publish_checkpoint_folder, publish_manifest


def test_a_damaged_generation_does_not_stop_the_pruning(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in (0, 10, 20, 30):
        publish_checkpoint_folder(run, step)
    publish_manifest(run, 0, mined_at_step=10, rows=40)
    run.generation(1).mkdir()
    (run.generation(1) / "manifest.json").write_text("{ no json")
    assert prune_checkpoints(run, keep=1) == [20]


def test_the_checkpoint_of_the_generation_being_served_stays(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in (0, 10, 20, 30, 40):
        publish_checkpoint_folder(run, step)
    for number in range(4):  # 2 and 3 were too small: generation 1 is still being served
        publish_manifest(run, number, mined_at_step=10 * number, rows=40)
    log = EventLog(run.events, "queue", attempt=1)
    for number in (0, 1):
        log.write("switch", step=10 * number, generation=number, mined_at_step=10 * number)
    assert prune_checkpoints(run, keep=1) == []
    log.write("switch", step=35, generation=3, mined_at_step=30)
    log.write("switch", step=45, generation=4, mined_at_step=40)
    assert prune_checkpoints(run, keep=1) == [10]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def kill_before_operation(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process die right before its file operation `number`, from 0."""
    done = count()

    def dying(operation: Callable[..., Any]) -> Callable[..., Any]:
        def die_or_go_on(*args: Any, **kwargs: Any) -> Any:
            if next(done) == number:
                raise Killed
            return operation(*args, **kwargs)

        return die_or_go_on

    for name in ("rename", "fsync", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


@pytest.mark.parametrize("remove", [remove_published, remove_generation])
def test_a_remover_that_is_killed_leaves_the_whole_folder_or_its_name_free(
    remove: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "step=000000010"
    is_killed, num_kills = True, 0
    while is_killed:
        if not folder.exists():
            for name in ("manifest.json", "model.safetensors", "deep/trainer.pt"):
                write_json(folder / name, {})
        with monkeypatch.context() as patch:
            kill_before_operation(num_kills, patch)
            try:
                remove(folder)
                is_killed = False
            except Killed:
                num_kills += 1
        left = {path.name for path in folder.rglob("*") if path.is_file()}
        assert left in (set(), {"manifest.json", "model.safetensors", "trainer.pt"})
        assert bool(left) == folder.exists()
        sweep_staging(tmp_path)
        assert list(tmp_path.iterdir()) == ([folder] if left else [])
    assert num_kills == 7


def test_a_generation_that_is_gone_already_is_no_error(tmp_path: Path) -> None:
    remove_generation(tmp_path / "gen=000003")


def test_what_goes_is_announced_while_it_is_still_there(tmp_path: Path) -> None:
    run, seen = RunDir(tmp_path), []
    for step in (0, 10, 20, 30):
        publish_checkpoint_folder(run, step)
    gone = prune_checkpoints(
        run, keep=1, announce=lambda gone: seen.append((gone, run.checkpoint_steps()))
    )
    assert seen == [([10, 20], [0, 10, 20, 30])]
    assert (gone, run.checkpoint_steps()) == ([10, 20], [0, 30])
