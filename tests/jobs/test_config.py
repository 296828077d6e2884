from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import pytest

from facequarry.jobs import config as run_config
from facequarry.jobs.config import BadFlags, RunConfig, load_run_config, parse, to_flags, to_tree
from facequarry.miner.config import MinerConfig

RUN_FILES = sorted(Path(str(files("facequarry.jobs.runs"))).glob("*.toml"))


@pytest.mark.parametrize("file", RUN_FILES, ids=lambda file: file.name)
def test_every_shipped_run_file_parses(file: Path) -> None:
    assert load_run_config(file, []) != RunConfig()


def test_there_are_run_files() -> None:
    assert {"demo.toml", "lfw.toml", "vggface2.toml"} <= {file.name for file in RUN_FILES}


def test_flags_go_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('name = "mine"\n[trainer]\nsteps = 70\nbatch = 32\nflip = false\n')
    config = load_run_config(file, ["--trainer.steps", "90", "--miner.fallback", "easy", "hard"])
    trainer = config.trainer
    assert (config.name, trainer.steps, trainer.batch, trainer.flip) == ("mine", 90, 32, False)
    assert config.miner.fallback == ("easy", "hard")
    assert trainer.embedding_dim == RunConfig().trainer.embedding_dim


def test_a_resolved_configuration_comes_back_from_json(tmp_path: Path) -> None:
    config = load_run_config(RUN_FILES[0], ["--seed", "5"])
    config = replace(config, miner=replace(config.miner, fallback=("easy",)), photos=Path("-odd"))
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"schema_version": 1, **to_tree(config)}))
    assert load_run_config(file, []) == config
    assert parse(RunConfig, to_flags(to_tree(config)), default=RunConfig()) == config


def test_a_configuration_pickles_as_ray_needs() -> None:
    config = RunConfig(miner=MinerConfig(margin=0.3))
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[trainer]\nstpes = 3\n", "unknown key trainer.stpes; did you mean trainer.steps?"),
        ("[trainr]\nsteps = 3\n", "unknown key trainr; did you mean trainer?"),
        ("qqq = 3\n", "unknown key qqq; known: name, runs"),
        ("trainer = 3\n", "trainer is a section, write [trainer]"),
        ('[trainer]\nsteps = "soon"\n', "--trainer.steps is 'soon', expected a whole number"),
        ("[trainer]\nlearning_rate = inf\n", "it must be positive and finite"),
        ("[trainer]\nweight_decay = nan\n", "it must be 0 or more and finite"),
        ("seed = 99999999999999999999999\n", "it must lie in 0 to 2**32 - 1"),
        ("[trainer]\nsteps = 0\n", "trainer.steps is 0, it must be 1 or more"),
        ("[trainer]\nbatch = 9\nworkers = 2\n", "the batch must divide over the workers"),
        ("[miner]\nmargin = 5.0\n", "margin must lie between 0 and 4"),
        ('[miner]\nengine = "cuda"\n', "Expected one of ('auto', 'exact', 'routed', 'faiss')"),
        ("[split]\ntrain = 0.9\ntuning = 0.1\n", "so that identities are held out"),
        ("[ingest]\ncrop_px = 4\n", "crop_px"),
        ("[refresh]\ncarry_over = 2.0\n", "refresh.carry_over is 2.0"),
        ('name = "a/b"\n', "expected a plain folder name"),
        (f'name = "{"é" * 200}"\n', "name has 400 bytes, a folder's may have 255"),
        ("name = \n", "does not parse"),
    ],
)
def test_a_wrong_run_file_is_one_sentence_that_names_it(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(BadFlags) as caught:
        load_run_config(file, [])
    assert words in str(caught.value) and str(file) in str(caught.value)
    assert "\n" not in str(caught.value) and "│" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trainer.stepss", "3"], "did you mean --trainer.steps?"),
        (["--trainer.steps", "soon"], "'soon'"),
        (["--bogus"], "--bogus"),
    ],
)
def test_a_wrong_flag_is_one_sentence(flags: list[str], words: str) -> None:
    with pytest.raises(BadFlags, match="the command line") as caught:
        load_run_config(None, flags)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_flag_is_one_sentence_where_output_is_ascii() -> None:
    command = [sys.executable, "-m", "facequarry.jobs", "run", "--trainer.steps", "soon"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 2
    assert done.stderr == (
        "facequarry: the command line: --trainer.steps is 'soon', expected a whole number\n"
    )


@dataclass(frozen=True, kw_only=True)
class Wrapped:
    size: int = 1
    """One two
    three."""


def test_a_text_of_several_lines_is_one_paragraph_of_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse(Wrapped, ["--help"])
    assert "One two three." in capsys.readouterr().out


def test_a_missing_run_file_says_where_the_shipped_ones_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="jobs/runs/"):
        load_run_config(tmp_path / "absent.toml", [])


@pytest.mark.parametrize("count_kinds", [False, True])
def test_a_run_of_an_older_release_opens(tmp_path: Path, count_kinds: bool) -> None:
    tree = to_tree(RunConfig())
    file = tmp_path / "config.json"
    miner = tree["miner"] | {"count_kinds": count_kinds}
    cluster = tree["cluster"] | {"gallery_gib": 2.5}
    file.write_text(json.dumps(tree | {"miner": miner, "cluster": cluster}))
    assert load_run_config(file, []) == RunConfig()


def test_a_run_that_asks_for_what_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run_config._GONE, "miner", {"rule": ("none",)})
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"miner": {"rule": "none"}}))
    assert load_run_config(file, []) == RunConfig()
    file.write_text(json.dumps({"miner": {"rule": "strict"}}))
    with pytest.raises(BadFlags, match="miner.rule is strict, which is gone since"):
        load_run_config(file, [])


def test_reading_a_run_file_imports_nothing_heavy() -> None:
    code = (
        "import sys, facequarry.jobs.config; from pathlib import Path;"
        f"facequarry.jobs.config.load_run_config(Path({str(RUN_FILES[0])!r}), []);"
        "print([m for m in ('torch', 'ray', 'faiss', 'numba', 'cv2', 'sklearn')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
