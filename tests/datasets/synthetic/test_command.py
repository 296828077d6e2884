from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from facequarry.datasets.synthetic.command import SHARES, main
from facequarry.datasets.synthetic.photo_options import PhotoOptions


def test_it_writes_the_photos_and_says_what(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "photos"
    assert main(["--out", str(out), "--identities", "2", "--photos", "3", "--hats", "0.5"]) == 0
    assert capsys.readouterr().out == (
        f"wrote 6 photos of 2 people to {out}, with loose_bb.csv and truth.csv\n"
    )
    assert len(list(out.glob("n*/*.jpg"))) == 6


def test_every_share_has_a_flag() -> None:
    assert list(SHARES) == [field.name for field in fields(PhotoOptions)]


def test_help_names_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--out DIR", "--identities N", "--seed N", "--label-errors SHARE"):
        assert flag in text


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--hats", "2"], "hats is 2.0, expected a share in 0 to 1"),
        (["--identities", "0"], "num_identities is 0, expected 1..999999"),
        (["--identities", "1", "--label-errors", "0.1"], "label_errors needs two identities"),
    ],
)
def test_a_number_out_of_range_is_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    assert main(["--out", str(tmp_path / "photos"), *flags]) == 2
    report = capsys.readouterr().err
    assert sentence in report and report.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--out", "x", "--identities", "y"], "argument --identities: invalid int value: 'y'"),
        (["--out", "x", "--identitis", "3"], "unrecognized arguments: --identitis 3"),
        ([], "the following arguments are required: --out"),
    ],
)
def test_flags_that_do_not_parse_are_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(flags)
    assert stop.value.code == 2
    assert (
        capsys.readouterr().err
        == f"python -m facequarry.datasets.synthetic: {sentence}; see --help\n"
    )


def test_a_folder_that_holds_something_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["--out", str(tmp_path)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
