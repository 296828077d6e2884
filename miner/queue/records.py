"""The records of the queue's journal: one JSON object a line, each checked against those before it.

A record's `check` is a digest of the record before it and of its own fields, so that one that was
taken out, changed or moved is noticed. A journal from before there were checks has none in any line
and goes on without.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from facequarry.datasets.disk.errors import BadInput, Damaged

CHECK = "check"
FIRST_CHECK = ""
"""What the first record's check takes for the check before it."""

_CHECK_CHARS = 16
# The least value of each whole number; the queue's state says which follow each other.
_LEAST: Mapping[str, Mapping[str, int | None]] = {
    "open": {"batch": 1, "seed": None},
    "switch": {"first_step": 0, "rows": 0, "mined_at_step": 0},
    "granted": {"through_step": 0},
    "skipped": {"generation": 0},
    "deleted": {"generation": 0},
}


class CorruptJournal(Damaged):
    """The journal's records are damaged: answers that were given from it could not be repeated."""


def chained(record: Mapping[str, Any], before: str) -> dict[str, Any]:
    """Return a record with its check.

    Args:
        record: without one.
        before: the check of the record before it, or FIRST_CHECK.
    """
    fields = json.dumps(record, sort_keys=True)
    check = hashlib.sha256(f"{before}{fields}".encode()).hexdigest()[:_CHECK_CHARS]
    return {**record, CHECK: check}


def lines_of(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of a whole journal, chained from its first record on."""
    before, lines = FIRST_CHECK, []
    for record in records:
        whole = chained(record, before)
        before = whole[CHECK]
        lines.append(json.dumps(whole) + "\n")
    return "".join(lines)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read every record of a journal; unlike an event, none may be passed over.

    A torn last line is left out: no answer depended on it.

    Returns:
        The records without their checks; none where there is no journal.

    Raises:
        CorruptJournal: a record is damaged or does not follow the one before it, or the first one
            does not open the journal.
    """
    return read_chain(path)[0]


def read_chain(path: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Read as `read_records`, and return the last check too; None where the journal has none."""
    raw = path.read_bytes() if path.is_file() else b""
    records: list[dict[str, Any]] = []
    before: str | None = FIRST_CHECK
    for number, line in enumerate(raw[: raw.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            record = json.loads(line)
            if (record["record"] == "open") != (number == 1):
                raise BadInput(f"a journal does not go on with {record['record']!r} there")
            found = record.pop(CHECK, None)
            if number == 1 and found is None:
                before = None
            if found != (before if before is None else chained(record, before)[CHECK]):
                raise BadInput("it is not what was written after the line before it")
            before = found
            _check_fields(record)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise damaged(path, number, error) from error
        records.append(record)
    return records, before


def damaged(path: Path, number: int, error: Exception) -> CorruptJournal:
    """Return the error that names a damaged line and the ways out."""
    why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return CorruptJournal(f"{path} line {number} is damaged ({why}): {ways_out()}")


def ways_out() -> str:
    """Say what is lost with a damaged journal, and what to do."""
    return (
        "which rows were granted is lost; restore the file, train again from the start with "
        "--resume-from 0, or start a new run with --name"
    )


def _check_fields(record: Mapping[str, Any]) -> None:
    """Check the types and the ranges of a record's values.

    Raises:
        BadInput, KeyError: one is wrong or absent.
    """
    kind = record["record"]
    if kind not in _LEAST:
        raise BadInput(f"unknown record {kind!r}")
    for name, least in _LEAST[kind].items():
        _check_whole(name, record[name], least)
    match kind:
        case "open":
            carry_over = record["carry_over"]
            if type(carry_over) not in (int, float) or not 0 <= carry_over <= 1:
                raise BadInput(f"carry_over is {carry_over!r}, expected 0 to 1")
        case "switch":
            if record["generation"] is not None:
                _check_whole("generation", record["generation"], 0)
            if not isinstance(record.get("digest"), str | None):
                raise BadInput(f"digest is {record['digest']!r}, expected a text")
        case "skipped":
            if not isinstance(record["reason"], str):
                raise BadInput(f"reason is {record['reason']!r}, expected a text")


def _check_whole(name: str, value: object, least: int | None) -> None:
    if type(value) is not int or (least is not None and value < least):
        expected = "a whole number" if least is None else f"a whole number from {least} on"
        raise BadInput(f"{name} is {value!r}, expected {expected}")
