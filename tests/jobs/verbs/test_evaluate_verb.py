"""`facequarry evaluate` on a small run: what it prints, refuses and leaves on disk."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from facequarry.datasets.disk.publish import sha256_file
from facequarry.datasets.faces.split import Split
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.cli import main
from facequarry.jobs.config import RunConfig
from facequarry.jobs.state.plans import faces_of
from facequarry.jobs.state.runs_on_disk import open_run
from facequarry.trainer.config import TrainerConfig
from tests.datasets.photos import WHOLE, publish_plainly
from tests.trainer.pairs_files import Rows, all_pairs, write_pairs, write_people
from tests.trainer.stores import still, train_small

PEOPLE = [f"Person_{letter}" for letter in "ABCDEFGHIJKLMNOPQRST"]
STRANGERS = [f"Stranger_{letter}" for letter in "ABCDEFGH"]
SPLIT = Split(train=0.5, tuning=0.1)
TRAINER = TrainerConfig(embedding_dim=8, steps=10, batch=8, checkpoint_every=5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, its faces, and faces of strangers and of one trained person."""
    folder = tmp_path_factory.mktemp("evaluate_verb")
    publish_plainly(write_people(folder / "photos", dict.fromkeys(PEOPLE, 3)), folder / "faces")
    others = [*STRANGERS, *of("train")[:1]]
    photos = write_people(folder / "strangers", dict.fromkeys(others, 3))
    (photos / STRANGERS[0] / f"{STRANGERS[0]}_0003.jpg").write_bytes(b"")
    publish_plainly(photos, folder / "other")
    config = RunConfig(
        name="run", runs=folder, faces=folder / "faces", split=SPLIT, trainer=TRAINER
    )
    store = faces_of(config, RunDir(folder / "run")).open()
    run, _ = open_run(config, store.manifest, resume=False)
    train_small(run, still(store), TRAINER)
    return folder


def of(part: str) -> list[str]:
    return [name for name in PEOPLE if SPLIT.of(name) == part]


def evaluate(made: Path, *flags: object) -> int:
    return main(["evaluate", "--run", str(made / "run"), *map(str, flags)])


def pairs_of(folder: Path, names: list[str]) -> Path:
    return write_pairs(folder / "some.txt", str(len(names)), all_pairs(names))


def test_drawn_pairs_print_every_figure_and_picture(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(made) == 0
    printed = capsys.readouterr().out
    for word in ("accuracy", "AUC", "EER", "FAR 1e-4", "precision@1", "threshold", "confusion"):
        assert word in printed
    for name in ("roc", "d2", "confusion", "loss"):
        assert str(made / "run" / "evaluations" / "step=000000010" / f"{name}.png") in printed


def test_pairs_of_people_trained_on_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(made, "--pairs", pairs_of(tmp_path, PEOPLE)) == 2
    error = capsys.readouterr().err
    assert f"touch {len(of('train'))} people that the model was trained on" in error
    assert "--held-out-only keeps" in error


def test_held_out_only_keeps_and_counts(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pairs_of(tmp_path, PEOPLE)
    assert evaluate(made, "--pairs", path, "--held-out-only") == 0
    folder = RunDir(made / "run").evaluation(10, "pairs-some")
    metrics = json.loads((folder / "metrics.json").read_text())
    trained = set(of("train"))
    kept = [pair for pair in all_pairs(PEOPLE) if not trained.intersection(map(str, pair))]
    found = metrics["verification"]
    assert found["num_same"] + found["num_different"] == len(kept)
    assert metrics["pairs_file"]["left_out"] == {"with people trained on": 40 - len(kept)}
    assert metrics["pairs_file"]["num_tuning"] > 0
    assert f"{40 - len(kept)} with people trained on" in capsys.readouterr().out


def test_strangers_are_all_held_out(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pairs_of(tmp_path, STRANGERS)
    assert evaluate(made, "--pairs", path, "--faces", made / "other", "--step", 5) == 0
    assert (made / "run/evaluations/step=000000005-pairs-some-faces-other/metrics.json").is_file()
    assert 5 not in RunDir(made / "run").evaluation_steps()
    assert "left out of all figures │ none" in capsys.readouterr().out


def test_a_rejected_photo_is_counted(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = STRANGERS
    rows: Rows = [(first, 1, 3), (second, 1, 2), (first, 1, second, 1), (first, 2, second, 1)]
    path = write_pairs(tmp_path / "some.txt", "2", rows)
    assert evaluate(made, "--pairs", path, "--faces", made / "other") == 0
    printed = capsys.readouterr().out
    assert "1 with a photo rejected as empty_file" in printed
    assert "n/a (too few people for two folds that share none)" in printed


def test_a_trained_name_is_known_in_other_faces_too(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = pairs_of(tmp_path, [*STRANGERS, of("train")[0]])
    assert evaluate(made, "--pairs", path, "--faces", made / "other") == 2
    assert "touch 1 people" in capsys.readouterr().err


def test_drawn_pairs_of_other_faces_leave_trained_people_out(made: Path) -> None:
    assert evaluate(made, "--faces", made / "other") == 0
    folder = RunDir(made / "run").evaluation(10, "faces-other")
    assert json.loads((folder / "metrics.json").read_text())["identities"] == len(STRANGERS)


def test_absent_photos_are_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(made, "--pairs", pairs_of(tmp_path, STRANGERS)) == 2
    error = capsys.readouterr().err
    assert "names 16 photos that were never ingested, 8 people" in error
    assert "facequarry ingest --source PHOTOS --out faces/all --crop-px 32, then evaluate" in error


def test_faces_made_otherwise_are_refused_or_said(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger = replace(WHOLE, crop_px=48)
    publish_plainly(made / "strangers", tmp_path / "larger", larger)
    assert evaluate(made, "--faces", tmp_path / "larger") == 2
    assert "ingest with --crop-px 32" in capsys.readouterr().err
    publish_plainly(made / "strangers", tmp_path / "other", replace(WHOLE, min_face_px=5))
    assert evaluate(made, "--faces", tmp_path / "other") == 0
    assert "note: min_face_px is 5, 20 for the faces trained on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--held-out-only"], "--held-out-only goes with --pairs"),
        (["--step", "7"], "no checkpoint of step 7; its steps are 0, 5, 10"),
        (["--pairs", "absent.txt"], "no pairs file absent.txt"),
        (["--faces", "absent"], "no snapshot of faces under absent"),
    ],
)
def test_bad_flags_are_one_sentence(
    made: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    assert evaluate(made, *flags) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1


def test_a_run_that_is_not_there_names_those_that_are(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.parent)
    assert main(["evaluate", "--run", "demo"]) == 2
    assert "it has no config.json" in capsys.readouterr().err
    assert main(["evaluate", "--run", str(made / "demo")]) == 2
    assert f"under {made} there are run" in capsys.readouterr().err


@pytest.fixture
def broken(made: Path, tmp_path: Path) -> Path:
    """A copy of the run whose newest checkpoint may be damaged."""
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path


def test_damaged_weights_are_refused(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = RunDir(broken / "run").checkpoint(10) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert evaluate(broken) == 2
    assert "bytes changed since it was published" in capsys.readouterr().err


def test_weights_of_another_backbone_are_refused(
    broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunDir(broken / "run").checkpoint(10)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["weight_sha256"] == sha256_file(folder / "model.safetensors")
    manifest["embedding_dim"] = 16
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert evaluate(broken) == 2
    error = capsys.readouterr().err
    assert "does not fit the configured backbone" in error and len(error.splitlines()) <= 2


def test_two_pairs_files_of_one_name_have_a_folder_each(made: Path, tmp_path: Path) -> None:
    held_out = of("held_out")
    for number, names in enumerate((held_out[:4], held_out[1:], held_out[:4])):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = write_pairs(folder / "twin.txt", str(len(names)), all_pairs(names))
        assert evaluate(made, "--pairs", path) == 0
    evaluations = made / "run" / "evaluations"
    plain, other = sorted(evaluations.glob("step=000000010-pairs-twin*"))
    found = [json.loads((folder / "metrics.json").read_text()) for folder in (plain, other)]
    assert [one["identities"] for one in found] == [4, len(held_out) - 1]
    assert plain.name == "step=000000010-pairs-twin"
    assert other.name == f"{plain.name}-{found[1]['inputs_sha256'][:8]}"


def test_two_folders_of_faces_of_one_name_have_a_folder_each(made: Path, tmp_path: Path) -> None:
    publish_plainly(made / "strangers", tmp_path / "same")
    shutil.copytree(tmp_path / "same", tmp_path / "elsewhere" / "same")
    for root in (tmp_path / "same", tmp_path / "elsewhere" / "same", tmp_path / "same"):
        assert evaluate(made, "--faces", root) == 0
    assert len(list((made / "run" / "evaluations").glob("step=000000010-faces-same*"))) == 2


def test_a_files_own_folds_that_cannot_be_judged_are_said_to_be_the_reason(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third, *_ = STRANGERS
    rows: Rows = [(second, 1, 2), (first, 1, second, 1), (third, 1, 2), (first, 2, third, 1)]
    path = write_pairs(tmp_path / "folds.txt", "2\t1", rows)
    assert evaluate(made, "--pairs", path, "--faces", made / "other") == 0
    assert "2 folds (the file's" in capsys.readouterr().out
    (tmp_path / "rejected").mkdir()
    # Without the photo that was rejected the first fold has no same pair.
    rows[0] = (first, 1, 3)
    path = write_pairs(tmp_path / "rejected" / "folds.txt", "2\t1", rows)
    assert evaluate(made, "--pairs", path, "--faces", made / "other") == 0
    assert "n/a (fewer than two of the file's folds" in capsys.readouterr().out
