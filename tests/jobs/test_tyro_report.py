"""The contract with tyro: what it prints of each mistake, and the sentence we make of it."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, field
from typing import Literal

import docstring_parser
import pytest
import tyro

from facequarry.jobs.tyro_report import joined_doc_lines, one_sentence


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section."""

    steps: int = 3
    """A number."""
    share: float = 0.5
    """A share."""
    mode: Literal["a", "b"] = "a"
    """A word."""
    is_on: bool = False
    """A switch."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"section.steps is {self.steps}, it must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Flags."""

    source: str
    """Needed."""
    section: Section = field(default_factory=Section)


@dataclass(frozen=True, kw_only=True)
class Wrapped:
    """tyro remembers the texts of a class, so this one is seen once."""

    size: int = 1
    """One two
    three."""


def sentence(*flags: str) -> str:
    report = io.StringIO()
    with contextlib.redirect_stderr(report), pytest.raises(SystemExit) as stop:
        tyro.cli(Flags, args=list(flags), prog="facequarry verb")
    assert stop.value.code == 2
    return one_sentence(report.getvalue())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--source is missing"),
        (("--surce", "x"), "--source is missing; Unrecognized options: --surce x"),
        (
            ("--source", "x", "--section.stepss", "3"),
            "Unrecognized options: --section.stepss, 3; did you mean --section.steps?",
        ),
        (
            ("--source", "x", "--section.steps", "soon"),
            "--section.steps is 'soon', expected a whole number",
        ),
        (
            ("--source", "x", "--section.steps", "0"),
            "section.steps is 0, it must be 1 or more",
        ),
        (("--source", "x", "--bogus"), "Unrecognized options: --bogus"),
    ],
)
def test_a_mistake_is_one_sentence(flags: tuple[str, ...], said: str) -> None:
    assert sentence(*flags) == said


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--source",), "--source"),
        (("--source", "x", "--section.share", "much"), "could not convert string to float: 'much'"),
        (("--source", "x", "--section.mode", "c"), "('a', 'b')"),
        (("--source", "x", "--section.is-on", "True"), "True"),
    ],
)
def test_other_mistakes_name_what_is_wrong_on_one_line(flags: tuple[str, ...], words: str) -> None:
    said = sentence(*flags)
    assert words in said
    assert "\n" not in said and not set("│─╭╰\x1b") & set(said) and "---" not in said


def test_colours_and_an_ascii_frame_are_no_part_of_the_sentence() -> None:
    coloured = "\x1b[31m╭─ Parsing error ─────╮\x1b[0m\n│ \x1b[1mbad\x1b[0m thing │\n╰─────╯\n"
    ascii_frame = "  Parsing error\n  ---------------\n  bad thing\n  ---------------\n"
    assert one_sentence(coloured) == one_sentence(ascii_frame) == "bad thing"


def test_a_text_of_several_lines_is_one_paragraph_and_the_parser_is_given_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = docstring_parser.parse_from_object
    with joined_doc_lines(), pytest.raises(SystemExit):
        tyro.cli(Wrapped, args=["--help"])
    assert docstring_parser.parse_from_object is before
    assert "One two three." in capsys.readouterr().out
