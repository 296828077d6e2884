"""Any part of a run killed with -9 at a bad moment: nothing is lost, nothing doubled.

All of it in blocking mode on one thread, so that a disturbed run has to end with the very weights
of the undisturbed one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from facequarry.datasets.disk.errors import exit_code_of
from facequarry.datasets.disk.publish import write_json
from facequarry.datasets.faces.split import Split
from facequarry.datasets.generations.triplets import Lease
from facequarry.datasets.runs.events import last_attempt_by_step, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.cli import main
from facequarry.jobs.config import ClusterConfig, RunConfig, to_tree
from facequarry.jobs.endings import BadRun, RunFailed
from facequarry.jobs.pipeline import cluster_and_faces, driving, train_with_mining
from facequarry.jobs.state.runs_on_disk import absolute, check_run
from facequarry.miner.config import MinerConfig
from facequarry.miner.queue.journal import Journal
from facequarry.miner.queue.queue import lease_at
from facequarry.miner.queue.serve import Wait
from facequarry.miner.queue_actor import QueueActor
from facequarry.miner.refresh.refresh_config import RefreshConfig
from facequarry.trainer.config import TrainerConfig
from tests.datasets.photos import publish_plainly, write_tree
from tests.jobs.processes import actor_killed_when, ray_actors, wait_until

pytestmark = pytest.mark.ray

STEPS, EVERY = 12, 4
TIMEOUT_S = 300.0  # Ray takes minutes to start on a machine that has much else to do


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> RunConfig:
    folder = tmp_path_factory.mktemp("faults")
    photos = write_tree(folder / "photos", {f"n{number:06d}": 5 for number in range(12)})
    publish_plainly(photos, folder / "faces")
    return absolute(
        RunConfig(
            name="undisturbed",
            runs=folder / "runs",
            faces=folder / "faces",
            split=Split(train=0.7, tuning=0.0),
            trainer=TrainerConfig(
                embedding_dim=8, steps=STEPS, batch=8, checkpoint_every=EVERY, max_failures=2
            ),
            miner=MinerConfig(positives="random", positives_per_anchor=3, negatives="random"),
            refresh=RefreshConfig(mode="blocking", lease_timeout_s=TIMEOUT_S),
            cluster=ClusterConfig(address="auto"),
        )
    )


def train(config: RunConfig, *, resume: bool = False) -> RunDir:
    """Do the middle part of `facequarry run`: no ingest, no evaluation, no pictures."""
    run = check_run(config, resume=resume)
    with cluster_and_faces(config, run) as faces:
        first = faces.open().manifest
        with driving(config, run, first, resume=resume, resume_from=None) as attempt:
            train_with_mining(config, run, faces, attempt)
    return run


@pytest.fixture(scope="module")
def undisturbed(config: RunConfig) -> RunDir:
    return train(config)


def events(run: RunDir, stage: str, event: str) -> list[dict[str, object]]:
    return [line for line in read_events(run.events, stage) if line["event"] == event]


def is_at_step(run: RunDir, step: int) -> bool:
    return any(event["step"] == step for event in events(run, "trainer", "step"))


def leases(run: RunDir) -> list[Lease]:
    """Rebuild the rows that every step got from the journal alone."""
    opened = json.loads(run.queue_journal.read_text().partition("\n")[0])
    settings = {name: opened[name] for name in ("batch", "carry_over", "seed")}
    state = Journal(run.queue_journal, **settings).state
    return [lease_at(state, step) for step in range(state.granted_through + 1)]


def generation_bytes(run: RunDir) -> dict[str, bytes]:
    return {
        str(path.relative_to(run.generations)): path.read_bytes()
        for path in run.generations.rglob("*.parquet")
    }


def check_nothing_lost_nothing_doubled(run: RunDir, undisturbed: RunDir) -> None:
    consumed = last_attempt_by_step(events(run, "trainer", "step"))
    assert [event["step"] for event in consumed] == list(range(STEPS))
    assert leases(run) == leases(undisturbed)
    assert [event["generation"] for event in consumed] == [
        lease.generation for lease in leases(run)
    ]
    mined = [event["generation"] for event in events(run, "miner", "published")]
    assert mined == run.generation_numbers() == list(range(STEPS // EVERY))
    assert generation_bytes(run) == generation_bytes(undisturbed)
    assert not list(run.root.rglob(".staging*"))
    weights, expected = (
        (each.checkpoint(STEPS) / "model.safetensors").read_bytes() for each in (run, undisturbed)
    )
    assert weights == expected


class HeldQueueActor(QueueActor):
    """Lets training wait at a checkpoint, as for its generation, while a file says so."""

    def __init__(self, run: RunDir, *args: object) -> None:
        super().__init__(run, *args)  # type: ignore[arg-type]
        self._hold = hold_file(run)

    def ask(self, step: int) -> Lease | Wait:
        if self._hold.exists() and step >= int(self._hold.read_text()):
            return Wait("blocking refresh")
        return super().ask(step)


def hold_file(run: RunDir) -> Path:
    return run.root / "hold"


def hold_training_at(run: RunDir, step: int) -> Callable[[], None]:
    """Let a `HeldQueueActor` grant nothing from a checkpoint on until the result is called."""
    run.root.mkdir(parents=True)
    hold_file(run).write_text(str(step))
    return hold_file(run).unlink


HELD_COMMAND = """
import sys
import facequarry.jobs.start_actors
from facequarry.jobs.cli import main
from tests.jobs.test_faults import HeldQueueActor
facequarry.jobs.start_actors.QueueActor = HeldQueueActor
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_training_worker_comes_back_at_the_newest_checkpoint(
    config: RunConfig, undisturbed: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facequarry.jobs.start_actors.QueueActor", HeldQueueActor)
    config = replace(config, name="worker")
    run = RunDir(config.runs / config.name)
    let_go = hold_training_at(run, 2 * EVERY)
    at_step = partial(is_at_step, run, EVERY + 1)
    with actor_killed_when(at_step, "TrainWorker", then=let_go) as killed:
        train(config)
    assert killed
    check_nothing_lost_nothing_doubled(run, undisturbed)
    (restart,) = events(run, "driver", "restart")
    assert "training worker 0 was lost" in str(restart["reason"]) and restart["restarts"] == 1
    starts = [event["resumed_step"] for event in events(run, "trainer", "start")]
    assert starts in ([0, EVERY], [0, 2 * EVERY])


def test_one_killed_rank_of_two_brings_both_back(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facequarry.jobs.start_actors.QueueActor", HeldQueueActor)
    config = replace(
        config,
        name="ranks",
        trainer=replace(config.trainer, workers=2),
        cluster=replace(config.cluster, trainer_cpus=0.5),
    )
    run = RunDir(config.runs / config.name)
    let_go = hold_training_at(run, 2 * EVERY)
    at_step = partial(is_at_step, run, EVERY + 1)
    with actor_killed_when(at_step, "TrainWorker", then=let_go) as killed:
        train(config)
    assert killed
    consumed = last_attempt_by_step(events(run, "trainer", "step"))
    assert [event["step"] for event in consumed] == list(range(STEPS))
    assert [event["restarts"] for event in events(run, "driver", "restart")] == [1]
    assert [event["world_size"] for event in events(run, "trainer", "start")] == [2, 2]


def test_a_killed_miner_mines_its_generation_again_under_the_same_number(
    config: RunConfig, undisturbed: RunDir
) -> None:
    config = replace(config, name="miner")
    run = RunDir(config.runs / config.name)
    with actor_killed_when(lambda: events(run, "miner", "begin"), "MinerActor") as killed:
        train(config)
    assert killed
    check_nothing_lost_nothing_doubled(run, undisturbed)
    begun = [event["generation"] for event in events(run, "miner", "begin")]
    assert begun == [0, 0, 1, 2]  # the first was killed in the middle, and published nothing
    assert not events(run, "driver", "restart")


class QueueThatDiesOnce(QueueActor):
    """Dies of kill -9 when a grant is in the journal and its answer has not left."""

    def __init__(self, run: RunDir, *args: object) -> None:
        super().__init__(run, *args)  # type: ignore[arg-type]
        self._run_dir = run

    def ask(self, step: int) -> Lease | Wait:
        lease = super().ask(step)
        died = self._run_dir.root / "died"
        if step > EVERY and isinstance(lease, Lease) and not died.exists():
            died.write_bytes(self._run_dir.queue_journal.read_bytes())
            os.kill(os.getpid(), signal.SIGKILL)
        return lease


def test_a_queue_killed_between_a_grant_and_its_answer_answers_the_same(
    config: RunConfig, undisturbed: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facequarry.jobs.start_actors.QueueActor", QueueThatDiesOnce)
    run = train(replace(config, name="queue"))
    check_nothing_lost_nothing_doubled(run, undisturbed)
    at_death = (run.root / "died").read_bytes()
    last = json.loads(at_death.splitlines()[-1])
    assert last["record"] == "granted" and last["through_step"] > EVERY
    assert run.queue_journal.read_bytes().startswith(at_death)
    starts = [event["granted_through"] for event in events(run, "queue", "start")]
    assert starts == [-1, last["through_step"]]


def test_a_killed_driver_takes_all_with_it_and_the_run_is_gone_on_with(
    config: RunConfig, undisturbed: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(config, name="driver")
    run = RunDir(config.runs / config.name)
    alone = replace(config, cluster=ClusterConfig(num_cpus=2, object_store_gib=0.1))
    write_json(config.runs / "driver.json", to_tree(alone))
    flags = ["run", "--config", str(config.runs / "driver.json")]
    command = [sys.executable, "-c", HELD_COMMAND, *flags]
    hold_training_at(run, EVERY)
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) as it:
        is_mined = partial(events, run, "miner", "published")
        generation = "the generation of the checkpoint"
        wait_until(lambda: len(is_mined()) == 2, generation, timeout_s=TIMEOUT_S)
        names = ("MinerActor", "QueueActor", "TrainWorker")
        actors = [pid for name in names for pid in ray_actors(name, below=it.pid)]
        it.kill()
    assert len(actors) == 3
    # At once: the actors live on for seconds, and the new ones wait for their locks.
    granted = run.queue_journal.read_bytes()
    assert main(["train", "--run", str(run.root)]) == 0
    assert f"to {STEPS} in" in capsys.readouterr().out
    check_nothing_lost_nothing_doubled(run, undisturbed)
    assert run.queue_journal.read_bytes().startswith(granted)
    resumed = events(run, "trainer", "start")[-1]["resumed_step"]
    assert resumed == EVERY
    ends = [event["attempt"] for event in events(run, "driver", "end")]
    assert ends == [2]  # nobody was left to log the end of the first


@pytest.fixture(scope="module")
def exploding(config: RunConfig) -> tuple[RunConfig, RunFailed]:
    """A run whose loss is no number after the first step, and how it ended."""
    trainer = replace(config.trainer, learning_rate=1e30, selection="random")
    config = replace(config, name="exploding", trainer=trainer, refresh=RefreshConfig())
    with pytest.raises(RunFailed) as caught:
        train(config)
    return config, caught.value


def test_what_the_work_raises_is_not_tried_again(exploding: tuple[RunConfig, RunFailed]) -> None:
    config, ending = exploding
    assert "start a new run with a lower trainer.learning-rate" in str(ending)
    run = RunDir(config.runs / config.name)
    assert len(events(run, "trainer", "start")) == 1
    assert not events(run, "driver", "restart")
    assert run.checkpoint_steps() == [0]


def test_a_checkpoint_of_another_backbone_ends_as_bad_input(
    exploding: tuple[RunConfig, RunFailed],
) -> None:
    config, _ = exploding
    wide = replace(config, name="wide", trainer=replace(config.trainer, embedding_dim=16))
    run = RunDir(wide.runs / wide.name)
    shutil.copytree(config.runs / config.name, run.root)
    write_json(run.config, to_tree(wide), replace=True)
    with pytest.raises(BadRun, match="does not fit the configured backbone") as caught:
        train(wide, resume=True)
    assert exit_code_of(caught.value) == 2
