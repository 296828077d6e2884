"""Stages, kinds and colours are spelled in one file, and all that a run can name is in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from facequarry.datasets.runs import vocabulary
from facequarry.datasets.runs.events import FIELDS
from facequarry.datasets.runs.vocabulary import (
    KINDS,
    KINDS_BY_DISTANCE,
    MINE_STAGES,
    OUTCOMES,
    REASONS,
    REFRESH_STAGES,
    STAGES,
    WHEN_CONSUMED,
    Term,
    names,
)
from facequarry.miner.config import Rung
from tests.test_imports import MODULES, ROOT

VOCABULARY = "datasets/runs/vocabulary.py"
GROUPS = {
    "stages": {*names(STAGES), *names(MINE_STAGES)},
    "kinds": {*names(KINDS), *names(OUTCOMES), *names(KINDS_BY_DISTANCE)},
    "reasons": {*names(REASONS)},
    "when consumed": {*names(WHEN_CONSUMED)},
}
TERMS = [value for value in vars(vocabulary).values() if isinstance(value, Term)] + [*WHEN_CONSUMED]
# Seconds in a refresh's event that are of all of it, not of a stage.
WHOLE = {"refresh", "forecast"}
HEX = re.compile(r"#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})\b")


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield every file of the packages but the vocabulary."""
    for path in MODULES.values():
        where = path.relative_to(ROOT).as_posix()
        if where != VOCABULARY:
            yield where, ast.parse(path.read_text(encoding="utf-8"))


def laps(tree: ast.Module) -> Iterator[str]:
    """Yield the stages that a file's stopwatches end: `watch.lap("select", search=...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "lap":
                yield from (str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))
                yield from (keyword.arg for keyword in node.keywords if keyword.arg)


def lists_of(tree: ast.Module) -> Iterator[list[str]]:
    """Yield the words of every list, tuple, set and dictionary that a file writes out.

    A pair such as ("hard", "hard") is a word and its label; the options of a `Literal` are a type.
    """
    literals = {
        id(node.slice)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal"
    }
    for node in ast.walk(tree):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.List | ast.Tuple | ast.Set) and id(node) not in literals:
            # The first word of rows such as ("embed", BLUE) stands for the row.
            parts = [
                part.elts[0] if isinstance(part, ast.Tuple) and part.elts else part
                for part in node.elts
            ]
        elif isinstance(node, ast.Dict):
            parts = list(node.keys)
        yield [
            part.value
            for part in parts
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]


def spelled(tree: ast.Module) -> list[set[str]]:
    """Return the lists of a file that name two things of one group or more."""
    found = (set(words) & group for words in lists_of(tree) for group in GROUPS.values())
    return [words for words in found if len(words) > 1]


def test_every_stage_that_a_stopwatch_ends_is_a_term() -> None:
    ended = {stage: where for where, tree in trees() for stage in laps(tree)}
    assert {"load", "choose", "search", "compare"} <= ended.keys()
    assert ended.keys() <= GROUPS["stages"]


def test_every_second_of_a_refresh_in_the_event_log_is_of_a_stage() -> None:
    logged = {name.removeprefix("miner/") for name in FIELDS if re.fullmatch("miner/.*_s", name)}
    assert logged == {f"{stage}_s" for stage in {*names(REFRESH_STAGES), *WHOLE}}
    consumed = {f"trainer/{kind}_share" for kind in names(WHEN_CONSUMED)}
    assert consumed | {f"miner/{outcome}" for outcome in names(OUTCOMES)} <= FIELDS.keys()


def test_every_rung_serves_a_kind() -> None:
    assert set(get_args(Rung)) <= set(names(KINDS))


def test_kinds_keep_the_order_that_published_tables_have() -> None:
    assert names(KINDS) == ("semi_hard", "hard", "easy", "random")
    assert names(REASONS) == ("over_positive_cap", "under_duplicate_floor")


@pytest.mark.parametrize("terms", [OUTCOMES, KINDS, REASONS, WHEN_CONSUMED])
def test_kinds_of_one_picture_have_colours_and_labels_of_their_own(terms: tuple[Term, ...]) -> None:
    assert len({kind.color for kind in terms}) == len({kind.label for kind in terms}) == len(terms)


def test_what_bears_one_name_is_one_term() -> None:
    assert len({term.name for term in TERMS}) == len(set(TERMS))


def test_no_other_file_spells_a_list_of_them() -> None:
    assert {where: found for where, tree in trees() if (found := spelled(tree))} == {}


def test_no_other_file_spells_a_colour() -> None:
    # The synthetic faces are painted with numbers, and the page's style sheet has names.
    found = {where for where, tree in trees() if HEX.search(ast.unparse(tree))}
    assert found == set()


@pytest.mark.parametrize(
    "code",
    [
        'X = ("hard", "easy")',
        'X = {"semi_hard": 1, "band_empty": 2}',
        'for kind, color in (("hard", RED), ("easy", BLUE)): pass',
        'X = ["embed", "mine", *others]',
    ],
)
def test_a_list_would_be_found(code: str) -> None:
    assert spelled(ast.parse(code))


def test_a_type_of_options_is_no_list() -> None:
    assert not spelled(ast.parse('Rung = Literal["easy", "hard", "random"]'))


def test_the_vocabulary_is_light() -> None:
    tree = ast.parse(Path(ROOT / VOCABULARY).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "collections.abc", "dataclasses"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
