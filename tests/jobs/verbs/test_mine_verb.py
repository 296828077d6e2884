"""`facequarry mine` on a run that was made without Ray."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread

from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.disk.publish import SCHEMA_VERSION, write_json
from facequarry.datasets.generations.triplets import CorruptGeneration, read_generation_manifest
from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.cli import main
from facequarry.jobs.config import to_tree
from facequarry.jobs.pictures.generation_pictures import draw_generation, manifests_until
from facequarry.jobs.state.plans import faces_of
from facequarry.jobs.state.runs_on_disk import read_run
from facequarry.miner.config import MinerConfig
from facequarry.trainer.batch.run_faces import RunFaces
from facequarry.trainer.config import TrainerConfig
from tests.jobs.small_runs import train_run

TRAINER = TrainerConfig(embedding_dim=8, steps=4, batch=8, checkpoint_every=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run with checkpoints 0 and 4, and generations 0 and 1 of them."""
    run = train_run(tmp_path_factory.mktemp("trained"), TRAINER)
    for step in ("0", "4"):
        assert main(["mine", "--run", str(run.root), "--step", step]) == 0
    return run


@pytest.fixture
def run(trained: RunDir, tmp_path: Path) -> RunDir:
    shutil.copytree(trained.root, tmp_path / "run")
    return RunDir(tmp_path / "run")


def refused(run: RunDir, capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """Return the one sentence with which bad input is refused."""
    assert main(["mine", "--run", str(run.root), *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def configure(run: RunDir, config: MinerConfig) -> None:
    """Give a run another miner's configuration."""
    tree = to_tree(replace(read_run(run), miner=config))
    write_json(run.config, {"schema_version": SCHEMA_VERSION, **tree}, replace=True)


@pytest.mark.parametrize("word", ["gen=1", "1", "gen=000001"])
def test_a_replay_that_is_the_same_says_so(
    run: RunDir, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    assert main(["mine", "--run", str(run.root), "--replay", word]) == 0
    assert "generation 1 is the same byte for byte: " in capsys.readouterr().out
    assert run.generation_numbers() == [0, 1]


def test_a_replay_restores_damaged_parts(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    part = run.generation(1) / "part-00000.parquet"
    before = part.read_bytes()
    part.unlink()
    assert main(["mine", "--run", str(run.root), "--replay", "1"]) == 0
    assert "restored part-00000.parquet: " in capsys.readouterr().out
    assert part.read_bytes() == before


def test_a_replay_that_differs_fails_and_says_where_it_lies(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run.generation(1) / "manifest.json"
    path.write_text(path.read_text().replace('"negatives": "nearest"', '"negatives": "hardest"'))
    assert main(["mine", "--run", str(run.root), "--replay", "1"]) == 1
    out = capsys.readouterr().out
    assert "came out differently: part-00000.parquet has sha256 " in out
    assert f"the replay lies in {run.root / 'replays' / 'gen=000001'}" in out


def test_a_generation_whose_checkpoint_was_pruned_is_refused(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run.checkpoint(0))
    assert "generations that can be: 1" in refused(run, capsys, "--replay", "0")


def test_a_generation_that_is_not_there_is_refused(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run.generation(0))
    assert "there is no generation 0; there are 1\n" in refused(run, capsys, "--replay", "0")


@pytest.mark.parametrize("word", ["gen=", "last", "-1", "gen=1.5"])
def test_a_word_that_is_no_generation_is_refused(
    run: RunDir, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    assert "expected a generation such as gen=3 or 3" in refused(run, capsys, f"--replay={word}")


def test_a_replay_takes_no_step(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert "leave out --step" in refused(run, capsys, "--replay", "1", "--step", "4")


def test_a_step_without_a_checkpoint_is_refused(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refused(run, capsys, "--step", "3")
    assert "no checkpoint of step 3; there are 0, 4" in sentence


def test_a_run_without_a_checkpoint_is_refused(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run.checkpoints)
    assert "has no checkpoint yet; start it with facequarry run" in refused(run, capsys)


def test_a_run_of_a_newer_schema_is_refused(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run.config.read_text()
    run.config.write_text(text.replace('"schema_version": 1', '"schema_version": 9'))
    assert "install a newer facequarry" in refused(run, capsys)


def test_an_index_that_cannot_be_built_is_refused_before_anything_is_embedded(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(*args: object, **kwargs: object) -> None:
        raise AssertionError("embedded")

    monkeypatch.setattr("facequarry.miner.refresh.executors.embed", embed)
    configure(run, MinerConfig(engine="faiss", faiss_index="IVF4,Flat", nprobe=9))
    assert "nprobe is 9, but IVF4,Flat has 4 inverted lists" in refused(run, capsys)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_a_refresh_that_fails_does_not_look_in_hand(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("facequarry.miner.refresh.generation.mine_into", fail)
    assert main(["mine", "--run", str(run.root)]) in (1, 130)
    begin, failed = read_events(run.events, "miner")[-2:]
    assert (begin["event"], failed["event"]) == ("begin", "failed")
    assert (failed["checkpoint_step"], failed["generation"]) == (4, 2)
    assert failed["reason"] == f"{type(error).__name__}: {error}"


def test_memory_that_runs_out_is_refused_and_nothing_is_published(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    before = sorted(run.generations.iterdir())
    monkeypatch.setattr("facequarry.miner.mining.check_rows", fail)
    sentence = refused(run, capsys)
    assert "ran out of memory (Unable to allocate 9 GiB): set or lower miner.anchors" in sentence
    assert sorted(run.generations.iterdir()) == before
    assert read_events(run.events, "miner")[-1]["event"] == "failed"


@pytest.mark.parametrize(("driver", "words"), [(True, "the run's own miner"), (False, "another")])
def test_beside_a_miner_at_work_there_is_nothing_to_do(
    run: RunDir, capsys: pytest.CaptureFixture[str], driver: bool, words: str
) -> None:
    with contextlib.ExitStack() as locks:
        locks.enter_context(WriterLock(run.miner_lock))
        if driver:
            locks.enter_context(WriterLock(run.driver_lock))
        assert main(["mine", "--run", str(run.root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"nothing to do: {words}")
    assert f"(process {os.getpid()} on {socket.gethostname()}) is at work; try again when" in out


def test_the_table_spells_a_kind_one_way_and_has_no_recall_of_an_exact_search(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mine", "--run", str(run.root)]) == 0
    out = capsys.readouterr().out
    assert "semi-hard pairs" in out and "semi hard" not in out
    assert "recall" not in out


def test_rows_over_the_limit_of_uses_are_shown(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(run, MinerConfig(max_uses_as_negative=1, threads=1))
    assert main(["mine", "--run", str(run.root)]) == 0
    assert "rows over max uses as negative" in capsys.readouterr().out


def test_stages_that_take_long_say_how_far_they_are(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("facequarry.miner.core.pace._SAY_EVERY_S", 0)
    assert main(["mine", "--run", str(run.root)]) == 0
    for stage, unit in (("embed", "faces"), ("search", "products")):
        said = [message for message in caplog.messages if message.startswith(stage)]
        assert said and said[-1].startswith(f"{stage} 100.0 % | ")
        assert f" {unit}/s | eta " in said[-1]


def test_flags_over_a_run_hold_for_one_generation(run: RunDir) -> None:
    before = run.config.read_bytes()
    flags = ("--miner.negatives", "hardest", "--miner.positive-cap", "1e-6", "--augmented", "False")
    assert main(["mine", "--run", str(run.root), *flags]) == 0
    manifest = read_generation_manifest(run.generation(2))
    assert (manifest["config"]["negatives"], manifest["config"]["positive_cap"]) == (
        "hardest",
        1e-6,
    )
    assert manifest["augmentation"] is None
    assert run.config.read_bytes() == before
    assert main(["mine", "--run", str(run.root), "--replay", "2"]) == 0


def test_the_margin_of_a_run_stays_that_of_its_loss(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refused(run, capsys, "--miner.margin", "0.5")
    assert "--miner.margin 0.5 is not the run's 0.2, which its loss has too" in sentence


@pytest.mark.parametrize("flags", [("--miner.negatives", "random"), ("--augmented", "False")])
def test_a_replay_takes_no_flags_of_mining(
    run: RunDir, capsys: pytest.CaptureFixture[str], flags: tuple[str, str]
) -> None:
    assert "--replay mines as the manifest says" in refused(run, capsys, "--replay", "1", *flags)


def test_suspects_are_drawn_into_the_run_and_go_with_their_generation(run: RunDir) -> None:
    sheet = run.pictures / "suspects.png"
    mine = ["mine", "--run", str(run.root)]
    assert main([*mine, "--miner.positive-cap", "1e-6"]) == 0
    pixels = imread(sheet)
    assert not (pixels == pixels[0, 0]).all()
    assert main(mine) == 0
    assert not sheet.exists()


def test_a_generation_without_its_suspects_is_corrupt(run: RunDir) -> None:
    (run.generation(1) / "suspects.parquet").unlink()
    with pytest.raises(CorruptGeneration, match="--replay gen=1"):
        draw_generation(run, RunFaces(faces_of(read_run(run), run)), 1)


def test_the_page_shows_the_generations_that_are_sound(run: RunDir) -> None:
    (run.generation(0) / "manifest.json").write_text("{}")
    assert [manifest["generation"] for manifest in manifests_until(run, 1)] == [1]


def test_the_table_names_identities(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", "--run", str(run.root)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"negatives of most anchors +│ \d+ \(n00000\d\) of \d+ anchors", out)
    assert re.search(r"most confused identities +│ n00000\d and n00000\d: \d+ rows", out)
    assert "useful GFLOP/s" in out
