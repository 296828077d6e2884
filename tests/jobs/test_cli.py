from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from facequarry.datasets.disk.errors import TimedOut, exit_code_of
from facequarry.jobs.cli import VERBS, main
from facequarry.miner.config import MinerConfig
from tests.datasets.photos import write_tree


def refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused: exit code 2 and one sentence."""
    assert main(flags) == 2
    sentence = capsys.readouterr().err.strip()
    assert sentence.startswith("facequarry: ") and "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


def test_usage_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert all(f"  {verb} " in usage for verb in VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert "--help" in capsys.readouterr().out


def test_an_unknown_verb_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "one of: demo, ingest" in refused(["fly"], capsys)


@pytest.mark.parametrize("verb", ["demo", "ingest", "mine", "evaluate", "status", "doctor", "run"])
def test_an_unknown_flag_is_refused(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--bogus" in refused([verb, "--bogus", "1"], capsys)


def test_an_absent_source_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["ingest", "--source", str(tmp_path / "absent"), "--out", str(tmp_path / "faces")]
    assert "absent" in refused(flags, capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_source_without_identities_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "loose.jpg").write_bytes(b"x")
    flags = ["ingest", "--source", str(tmp_path / "photos"), "--out", str(tmp_path / "faces")]
    refused(flags, capsys)
    assert not (tmp_path / "faces").exists()


def test_a_run_without_faces_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["run", "--runs", str(tmp_path / "runs"), "--faces", str(tmp_path / "faces")]
    assert "facequarry ingest" in refused(flags, capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_exists_names_three_ways_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_tree(tmp_path / "photos", {"a": 2, "b": 2})
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "config.json").write_text("{}")
    flags = ["run", "--name", "x", "--runs", str(tmp_path / "runs"), "--photos", str(photos)]
    flags += ["--faces", str(tmp_path / "faces")]
    sentence = refused(flags, capsys)
    assert all(way in sentence for way in ("--resume", "--name", "remove"))


def test_resuming_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_tree(tmp_path / "photos", {"a": 2, "b": 2})
    flags = ["run", "--resume", "--runs", str(tmp_path / "runs"), "--photos", str(photos)]
    assert "leave out --resume" in refused(flags, capsys)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("verb", ["mine", "evaluate"])
def test_a_folder_that_is_no_run_is_refused(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no config.json" in refused([verb, "--run", str(tmp_path)], capsys)


def test_status_without_runs_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "make demo" in refused(["status", "--runs", str(tmp_path)], capsys)


def test_submit_needs_the_verb_it_submits(capsys: pytest.CaptureFixture[str]) -> None:
    assert "facequarry submit run" in refused(["submit"], capsys)


def test_a_job_that_is_not_followed_says_how_to_look_at_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "facequarry.jobs.submission.submit_run", lambda config, **_: f"{config.name}-1"
    )
    assert main(["submit", "--no-follow", "run", "--name", "x", "--runs", "/far/runs"]) == 0
    printed = capsys.readouterr().out
    assert "ray job logs --address http://127.0.0.1:8265 --follow x-1\n" in printed
    assert "facequarry status --runs /far/runs --run x\n" in printed


def test_a_dashboard_for_the_world_needs_a_login_in_front(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["dashboard", "--runs", str(tmp_path), "--host", "0.0.0.0"]
    assert "--behind-auth-proxy" in refused(flags, capsys)


def test_doctor_finds_what_this_suite_runs_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("ray", "torch", "faiss", "detector dlib-hog"))


def raised(work: Callable[[], object]) -> Exception:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (lambda: MinerConfig(margin=9), 2),
        (lambda: open("/no/such/file"), 2),
        (lambda: np.zeros(3).reshape(2, 2), None),  # a bug of ours, not of the user's
        (lambda: raise_(TimedOut("no shard was finished")), 1),
        (lambda: raise_(ConnectionError("gone")), 1),
        (lambda: raise_(OSError(errno.ENOSPC, "disk full")), 1),
    ],
)
def test_an_error_says_whose_it_is(work: Callable[[], object], code: int | None) -> None:
    assert exit_code_of(raised(work)) == code


def raise_(error: Exception) -> None:
    raise error


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"facequarry {version('facequarry')}\n"


def test_output_that_nobody_reads_to_its_end_is_no_error() -> None:
    command = [sys.executable, "-m", "facequarry.jobs", "ingest", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("ended", "code"), [(KeyboardInterrupt(), 130), (SystemExit(signal.SIGTERM), 130)]
)
def test_interrupts_end_with_130_and_a_sentence(
    ended: BaseException,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(flags: list[str]) -> int:
        raise ended

    monkeypatch.setattr("facequarry.jobs.verbs.doctor.run", interrupt)
    assert main(["doctor"]) == code
    assert "interrupted; run it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "words"),
    [("ingest", "same command goes on"), ("run", "goes on from it with --resume")],
)
def test_an_interrupt_says_how_to_go_on_where_something_is_kept(
    verb: str, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(flags: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"facequarry.jobs.verbs.{verb}.run", interrupt)
    assert main([verb]) == 130
    assert words in capsys.readouterr().err


def test_other_exits_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(flags: list[str]) -> int:
        raise SystemExit(3)

    monkeypatch.setattr("facequarry.jobs.verbs.doctor.run", leave)
    with pytest.raises(SystemExit):
        main(["doctor"])
