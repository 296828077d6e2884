"""How a run and `facequarry mine` are told to share a refresh out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.cli import main
from jobs.cluster import DoesNotFit, check_machine
from jobs.config import BadFlags, ClusterConfig, RunConfig, load_run_config
from jobs.plans import refresh_hands
from jobs.runs_on_disk import open_run
from miner.hands import HERE, embed_faces
from tests.miner.small_run import PLAN
from tests.trainer.stores import IDENTITIES, publish, train_small
from trainer.config import TrainerConfig
from trainer.faces import FacesAt, RunFaces

AT = FacesAt(root=Path("absent"), cache=Path("absent"), snapshot=1)
TRAINER = TrainerConfig(embedding_dim=8, steps=4, batch=8, checkpoint_every=4)
FOUR_CPUS = RunConfig(cluster=ClusterConfig(num_cpus=4, miner_actors=3))


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)


def test_by_default_the_miner_does_everything() -> None:
    assert refresh_hands(ClusterConfig(), AT) is HERE


def test_embedding_and_search_are_shared_out_apart() -> None:
    hands = refresh_hands(ClusterConfig(miner_actors=2), AT)
    assert hands.embed is embed_faces and hands.open_engine is not None
    hands = refresh_hands(ClusterConfig(embed_actors=2), AT)
    assert hands.embed is not embed_faces and hands.open_engine is None


@pytest.mark.usefixtures("no_ray")
def test_actors_and_trainers_have_to_fit_together() -> None:
    check_machine(FOUR_CPUS)
    # Embedders have ended when miners start.
    check_machine(replace(FOUR_CPUS, cluster=replace(FOUR_CPUS.cluster, embed_actors=3)))
    with pytest.raises(DoesNotFit, match="and 4 miner processes of 1 ask for 5 CPUs, .* has 4;"):
        check_machine(replace(FOUR_CPUS, cluster=replace(FOUR_CPUS.cluster, embed_actors=4)))
    with pytest.raises(DoesNotFit, match="or --cluster.miner-actors"):
        check_machine(replace(FOUR_CPUS, cluster=replace(FOUR_CPUS.cluster, miner_cpus=2)))


@pytest.mark.parametrize("name", ["miner_actors", "embed_actors", "gallery_gib"])
def test_none_at_all_is_refused(name: str) -> None:
    with pytest.raises(BadFlags, match=f"cluster.{name} is 0(.0)?, it must be"):
        load_run_config(None, [f"--cluster.{name.replace('_', '-')}", "0"])


def test_no_actors_are_refused_by_hand_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mine", "--run", str(tmp_path), "--actors", "0"]) == 2
    assert capsys.readouterr().err.count("--actors is 0, it must be 1 or more") == 1


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_generation_is_replayed_by_actors_with_one_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miner.sharing.choose_num_blocks", lambda *_: 5)
    at = publish(tmp_path, IDENTITIES)
    config = RunConfig(name="run", runs=tmp_path, faces=at.root, split=PLAN.split, trainer=TRAINER)
    run, _ = open_run(config, at.open().manifest, resume=False)
    train_small(run, RunFaces(at), TRAINER)
    assert main(["mine", "--run", str(run.root)]) == 0
    assert main(["mine", "--run", str(run.root), "--replay", "gen=0", "--actors", "3"]) == 0
    assert "generation 0 is the same byte for byte: " in capsys.readouterr().out
