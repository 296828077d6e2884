"""How a run and `facequarry mine` are told to share a refresh out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.cli import main
from facequarry.jobs.cluster import DoesNotFit, check_fits, check_machine
from facequarry.jobs.config import BadFlags, ClusterConfig, RunConfig, load_run_config
from facequarry.jobs.start_actors import start_miner
from facequarry.jobs.state.plans import refresh_executors
from facequarry.jobs.state.runs_on_disk import open_run
from facequarry.miner.config import Device, MinerConfig
from facequarry.miner.refresh.executors import HERE, embed_faces
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces
from facequarry.trainer.config import TrainerConfig
from tests.miner.small_run import PLAN
from tests.trainer.stores import IDENTITIES, publish, train_small

AT = FacesAt(root=Path("absent"), cache=Path("absent"), snapshot=1)
TRAINER = TrainerConfig(embedding_dim=8, steps=4, batch=8, checkpoint_every=4)
FOUR_CPUS = RunConfig(cluster=ClusterConfig(num_cpus=4, miner_actors=3))


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)


def test_by_default_the_miner_does_everything() -> None:
    assert refresh_executors(ClusterConfig(), AT) is HERE


def test_embedding_and_search_are_shared_out_apart() -> None:
    executors = refresh_executors(ClusterConfig(miner_actors=2), AT)
    assert executors.embed is embed_faces and executors.open_engine is not None
    executors = refresh_executors(ClusterConfig(embed_actors=2), AT)
    assert executors.embed is not embed_faces and executors.open_engine is None


@pytest.mark.usefixtures("no_ray")
def test_actors_and_trainers_have_to_fit_together() -> None:
    check_machine(FOUR_CPUS)
    # Embedders have ended when miners start.
    check_machine(replace(FOUR_CPUS, cluster=replace(FOUR_CPUS.cluster, embed_actors=3)))
    with pytest.raises(DoesNotFit, match="and 4 miner processes of 1 ask for 5 CPUs, .* has 4;"):
        check_machine(replace(FOUR_CPUS, cluster=replace(FOUR_CPUS.cluster, embed_actors=4)))
    with pytest.raises(DoesNotFit, match="or --cluster.miner-actors"):
        check_machine(replace(FOUR_CPUS, cluster=replace(FOUR_CPUS.cluster, miner_cpus=2)))


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("gpus", "device", "embed_actors", "trains_on", "asked"),
    [
        (0, "auto", 3, 0, None),  # everything on CPUs
        (0, "cpu", 3, 0, None),
        (0, "cuda", 1, 0, (0, 1)),
        (1, "cuda", 1, 0, None),
        (1, "cuda", 1, 1, (1, 1)),
        (1, "auto", 1, 1, None),  # they share it
        (1, "cpu", 3, 1, None),
        (1, "auto", 2, 1, (1, 1)),
        (2, "auto", 3, 1, None),  # one embeds, two wait for a place
        (4, "cuda", 3, 0, None),
        (4, "cuda", 3, 1, (1, 4)),
    ],
)
def test_gpus_have_to_do_for_trainers_the_miner_and_its_embedders(
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    device: Device,
    embed_actors: int,
    trains_on: int,
    asked: tuple[int, int] | None,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 16.0, "GPU": float(gpus)})
    config = RunConfig(
        trainer=TrainerConfig(use_gpu=trains_on > 0),
        miner=MinerConfig(device=device),
        cluster=ClusterConfig(num_cpus=16, embed_actors=embed_actors),
    )
    online = replace(config, trainer=replace(config.trainer, selection="online_semi_hard"))
    for check, where in ((check_machine, "this machine"), (check_fits, "Ray")):
        check(online)
        if asked is None:
            check(config)
            continue
        words = (
            f"training workers ask for {asked[0]} GPUs, the miner and its embedding actors for "
            f"{asked[1]}, {where} has {gpus}; lower --cluster.embed-actors, or set --miner.device"
        )
        with pytest.raises(DoesNotFit, match=words):
            check(config)


@pytest.mark.parametrize(("device", "gpus"), [("auto", 0), ("cpu", 0), ("cuda", 1)])
def test_a_miner_that_needs_a_gpu_asks_ray_for_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device, gpus: int
) -> None:
    asked: dict[str, Any] = {}
    actor = SimpleNamespace(remote=lambda *_, **__: None)

    def options(**told: Any) -> SimpleNamespace:
        asked.update(told)
        return actor

    monkeypatch.setattr("ray.remote", lambda _: SimpleNamespace(options=options))
    config = RunConfig(miner=MinerConfig(device=device))
    start_miner(config, RunDir(tmp_path), AT, 1)
    assert (asked["num_cpus"], asked["num_gpus"]) == (1.0, gpus)


@pytest.mark.parametrize("name", ["miner_actors", "embed_actors"])
def test_none_at_all_is_refused(name: str) -> None:
    with pytest.raises(BadFlags, match=f"cluster.{name} is 0(.0)?, it must be"):
        load_run_config(None, [f"--cluster.{name.replace('_', '-')}", "0"])


def test_no_actors_are_refused_by_hand_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mine", "--run", str(tmp_path), "--actors", "0"]) == 2
    assert capsys.readouterr().err.count("--actors is 0, it must be 1 or more") == 1


class Dying:
    """A miner whose process ends at every task."""

    def __init__(self, *_: object) -> None:
        pass

    def ready(self) -> None:
        pass

    def answer(self, *_: object) -> None:
        os._exit(1)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_generation_is_replayed_by_actors_with_one_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facequarry.miner.refresh.shared_executors.choose_num_blocks", lambda *_: 5)
    at = publish(tmp_path, IDENTITIES)
    config = RunConfig(name="run", runs=tmp_path, faces=at.root, split=PLAN.split, trainer=TRAINER)
    run, _ = open_run(config, at.open().manifest, resume=False)
    train_small(run, RunFaces(at), TRAINER)
    assert main(["mine", "--run", str(run.root)]) == 0
    assert main(["mine", "--run", str(run.root), "--replay", "gen=0", "--actors", "3"]) == 0
    assert "generation 0 is the same byte for byte: " in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_actors_that_die_again_and_again_end_it_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = "facequarry.miner.refresh.shared_executors"
    monkeypatch.setattr(f"{shared}.choose_num_blocks", lambda *_: 5)
    monkeypatch.setattr(f"{shared}.MineActor", Dying)
    at = publish(tmp_path, IDENTITIES)
    config = RunConfig(name="run", runs=tmp_path, faces=at.root, split=PLAN.split, trainer=TRAINER)
    run, _ = open_run(config, at.open().manifest, resume=False)
    train_small(run, RunFaces(at), TRAINER)
    assert main(["mine", "--run", str(run.root), "--actors", "2"]) == 1
    said = capsys.readouterr().err
    assert "miner actors die: 3 of them died at " in said
    assert "Traceback" not in said
