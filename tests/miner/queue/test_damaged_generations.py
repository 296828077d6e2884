from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from facequarry.datasets.generations.triplets import (
    CorruptGeneration,
    GenerationChanged,
    Lease,
    load_generation,
)
from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.serve import TripletQueue, Wait
from tests.miner.generations import (
    publish,
    publish_checkpoint_folder,
    queue_settings,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def test_a_generation_that_was_replaced_is_refused(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    before = queue.ask(0)
    shutil.rmtree(run.generation(0))
    with pytest.raises(GenerationChanged, match=r"is gone(?!.*--replay).*--resume-from STEP"):
        queue.ask(0)
    publish(run, 0, mined_at_step=0, first_face=1)
    for asked in (queue, TripletQueue(run, queue_settings(), attempt=2)):
        with pytest.raises(GenerationChanged, match="holds other rows than those"):
            asked.ask(0)
    shutil.rmtree(run.generation(0))
    publish(run, 0, mined_at_step=0)  # as a replay does
    assert queue.ask(0) == before


def test_a_lease_names_the_bytes_that_the_trainer_loads(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    lease = TripletQueue(run, queue_settings(), attempt=1).ask(0)
    assert isinstance(lease, Lease)
    digest = lease.ranges[0].digest
    assert load_generation(run.generation(0), digest=digest).number == 0
    assert {r.digest for rank in range(2) for r in lease.part(rank, 2)} == {digest}
    shutil.rmtree(run.generation(0))
    publish(run, 0, mined_at_step=0, first_face=1)
    with pytest.raises(GenerationChanged, match="holds other rows"):
        load_generation(run.generation(0), digest=digest)


def test_a_step_that_was_not_granted_does_not_depend_on_a_generation_that_is_gone(
    run: RunDir,
) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    queue.ask(0)
    shutil.rmtree(run.generation(0))
    with pytest.raises(GenerationChanged):
        queue.ask(2)
    publish(run, 1, mined_at_step=2)
    lease = queue.ask(2)
    assert isinstance(lease, Lease) and lease.generation == 1


@pytest.mark.parametrize(
    "manifest",
    [
        "{ no json",
        "[]",
        '{"generation": 1}',
        '{"schema_version": 99}',
        '{"generation": 1, "mined_at_step": 5, "rows": 9, "snapshot": 1, "parts": []}',
        '{"generation": 7, "mined_at_step": 5, "rows": 0, "snapshot": 1, "parts": []}',
    ],
)
def test_a_damaged_generation_that_was_never_served_is_passed_over(
    run: RunDir, manifest: str
) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    queue.ask(0)
    run.generation(1).mkdir()
    (run.generation(1) / "manifest.json").write_text(manifest)
    lease = queue.ask(2)
    assert isinstance(lease, Lease) and lease.generation == 0
    skipped = [e for e in read_events(run.events, "queue") if e["event"] == "skipped"]
    assert [e["generation"] for e in skipped] == [1]
    assert "it cannot be read" in skipped[0]["reason"]
    publish(run, 2, mined_at_step=6)
    lease = TripletQueue(run, queue_settings(), attempt=2).ask(4)
    assert isinstance(lease, Lease) and lease.generation == 2
    assert run.queue_journal.read_text().count("skipped") == 1


def test_a_damaged_first_generation_is_waited_out(run: RunDir) -> None:
    run.generation(0).mkdir(parents=True)
    (run.generation(0) / "manifest.json").write_text("{ no json")
    queue = TripletQueue(run, queue_settings(), attempt=1)
    assert queue.ask(0) == Wait("no generation")
    publish(run, 1, mined_at_step=0)
    assert isinstance(queue.ask(0), Lease)


def test_a_damaged_generation_that_was_granted_is_refused_with_its_repair(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    queue.ask(0)
    (run.generation(0) / "manifest.json").write_text("{ no json")
    for asked in (queue, TripletQueue(run, queue_settings(), attempt=2)):
        with pytest.raises(
            CorruptGeneration, match=r"restore it(?!.*(--replay|restore)).*--resume-from STEP"
        ):
            asked.ask(0)


def test_the_advice_names_a_checkpoint_that_helps(run: RunDir) -> None:
    queue = TripletQueue(run, queue_settings(), attempt=1)
    for number, step in enumerate((0, 4)):
        publish_checkpoint_folder(run, step)
        publish(run, number, mined_at_step=step)
        assert all(isinstance(queue.ask(asked), Lease) for asked in range(step, step + 4))
    publish_checkpoint_folder(run, 8)
    (run.generation(1) / "manifest.json").unlink()
    queue = TripletQueue(run, queue_settings(), attempt=2)
    with pytest.raises(GenerationChanged, match=r"--resume-from 4\)$"):
        queue.ask(4)


def test_a_changed_mined_at_step_is_refused(run: RunDir) -> None:
    publish(run, 0, mined_at_step=7)
    TripletQueue(run, queue_settings(), attempt=1).ask(0)
    path = run.generation(0) / "manifest.json"
    path.write_text(path.read_text().replace('"mined_at_step": 7', '"mined_at_step": 3'))
    with pytest.raises(CorruptGeneration, match="says mined_at_step 3, .* mined at step 7"):
        TripletQueue(run, queue_settings(), attempt=2).ask(0)
