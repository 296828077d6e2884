"""People whom a run's first weights were trained on are held out of nothing."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from facequarry.datasets.faces.split import Split
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.cli import main
from facequarry.jobs.config import RunConfig
from facequarry.jobs.state.evaluated_faces import EvaluatedFaces
from facequarry.jobs.state.origin import check_origin, origin_of
from facequarry.jobs.state.plans import faces_of
from facequarry.jobs.state.runs_on_disk import open_run
from facequarry.trainer.config import TrainerConfig
from tests.datasets.photos import publish_plainly
from tests.trainer.pairs_files import all_pairs, write_pairs, write_people
from tests.trainer.stores import still, train_small

PEOPLE = [f"Person_{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWX"]
SPLITS = {name: Split(train=0.4, tuning=0.1, seed=seed) for seed, name in enumerate("abc")}
TRAINER = TrainerConfig(embedding_dim=8, steps=1, batch=8, checkpoint_every=1)


def started(folder: Path, name: str, init_from: Path | None) -> RunConfig:
    """Train a run of its own split for one step."""
    trainer = replace(TRAINER, init_from=init_from)
    config = RunConfig(
        name=name, runs=folder, faces=folder / "faces", split=SPLITS[name], trainer=trainer
    )
    run = RunDir(folder / name)
    store = faces_of(config, run).open()
    open_run(config, store.manifest, resume=False)
    train_small(run, still(store), trainer)
    return config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, each from the weights of the one before."""
    folder = tmp_path_factory.mktemp("origin")
    publish_plainly(write_people(folder / "photos", dict.fromkeys(PEOPLE, 2)), folder / "faces")
    for name, before in (("a", None), ("b", "a"), ("c", "b")):
        started(folder, name, RunDir(folder / before).checkpoint(1) if before else None)
    return folder


def config_of(folder: Path, name: str, init_from: Path | None) -> RunConfig:
    return RunConfig(
        name=name,
        runs=folder,
        faces=folder / "faces",
        split=SPLITS[name],
        trainer=replace(TRAINER, init_from=init_from),
    )


def of(name: str, part: str) -> set[str]:
    return {person for person in PEOPLE if SPLITS[name].of(person) == part}


def test_drawn_people_were_trained_on_by_no_run_that_the_weights_come_from(made: Path) -> None:
    config = config_of(made, "c", RunDir(made / "b").checkpoint(1))
    faces = EvaluatedFaces.open(config, RunDir(made / "c"), None)
    chosen = faces.store.identity_index[faces.of_part("held_out")]
    found = {faces.store.identities[identity] for identity in chosen}
    assert found == of("c", "held_out") - of("b", "train") - of("a", "train")
    assert found < of("c", "held_out") - of("b", "train") < of("c", "held_out")


def test_pairs_of_people_that_an_earlier_run_trained_on_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = sorted(of("c", "held_out"))
    path = write_pairs(tmp_path / "some.txt", str(len(people)), all_pairs(people))
    assert main(["evaluate", "--run", str(made / "c"), "--pairs", str(path)]) == 2
    leaked = of("c", "held_out") & (of("a", "train") | of("b", "train"))
    assert f"touch {len(leaked)} people that the model was trained on" in capsys.readouterr().err


def test_a_run_over_people_its_first_weights_saw_is_refused_at_its_start(made: Path) -> None:
    first = RunDir(made / "a").checkpoint(1)
    store = faces_of(config_of(made, "b", None), RunDir(made / "b")).open()
    leaked = len(of("b", "held_out") & of("a", "train"))
    with pytest.raises(ValueError, match=rf"^{leaked} of the .* held_out .* split.seed 0\)"):
        check_origin(config_of(made, "b", first), store)
    check_origin(replace(config_of(made, "b", first), split=SPLITS["a"]), store)
    check_origin(config_of(made, "b", None), store)


def test_weights_of_no_known_run_are_said_to_be_that(
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(RunDir(made / "a").checkpoint(1), tmp_path / "weights")
    shutil.copytree(made / "c", tmp_path / "c")
    config = RunDir(tmp_path / "c").config
    tree = json.loads(config.read_text())
    tree["trainer"]["init_from"] = str(tmp_path / "weights")
    config.write_text(json.dumps(tree))
    assert main(["evaluate", "--run", str(tmp_path / "c")]) == 0
    assert "whom that was trained on is not known" in " ".join(capsys.readouterr().out.split())
    unknown = config_of(made, "c", tmp_path / "weights")
    with caplog.at_level(logging.WARNING):
        check_origin(unknown, faces_of(unknown, RunDir(made / "c")).open())
    assert "is not known" in caplog.text


def test_every_name_of_the_split_counts_where_the_faces_are_gone(
    made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "a", tmp_path / "a")
    config = RunDir(tmp_path / "a").config
    tree = json.loads(config.read_text()) | {"faces": str(tmp_path / "gone")}
    config.write_text(json.dumps(tree))
    near, far = (
        origin_of(config_of(made, "b", RunDir(root / "a").checkpoint(1)))
        for root in (made, tmp_path)
    )
    stranger = next(f"s{n}" for n in range(99) if SPLITS["a"].of(f"s{n}") == "train")
    assert (near.trained_on(stranger), far.trained_on(stranger)) == (False, True)
    assert near.unknown is None and far.unknown is None
