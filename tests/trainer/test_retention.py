from __future__ import annotations

from pathlib import Path

from datasets.events import EventLog
from datasets.run_dir import RunDir
from tests.miner.generations import publish_checkpoint_folder, publish_manifest
from trainer.retention import prune_checkpoints


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
