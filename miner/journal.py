"""The queue's journal on disk: `queue.jsonl`, appended and flushed before an answer leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miner.queue import QueueMismatch, QueueState, Switch, add_grant, add_switch


class CorruptJournal(ValueError):
    """A record does not parse: answers that were given from it could not be repeated."""


class Journal:
    """Reads the journal into a `QueueState` and appends to both together.

    Args:
        path: `RunDir.queue_journal`; made with an `open` record if absent.
        batch, carry_over, seed: the run's settings.

    Raises:
        QueueMismatch: the journal was granted with other settings.
        CorruptJournal: a record is damaged (a torn last line is not: no answer depended on it).
    """

    def __init__(self, path: Path, *, batch: int, carry_over: float, seed: int) -> None:
        self._path = path
        self._cut_torn_line()
        settings = {"batch": batch, "carry_over": carry_over, "seed": seed}
        self.state = QueueState(**settings)  # type: ignore[arg-type]
        self.skipped: dict[int, str] = {}
        lines = _read_strictly(path)
        if not lines:
            self._append({"record": "open", **settings})
        for line in lines:
            self._replay(line, settings)

    def switch(self, switch: Switch) -> None:
        """Record that a generation takes over."""
        state = add_switch(self.state, switch)
        self._append({"record": "switch", **asdict(switch)})
        self.state = state

    def grant(self, through_step: int) -> None:
        """Record that answers through a step may be given."""
        self._append({"record": "granted", "through_step": through_step})
        self.state = add_grant(self.state, through_step)

    def skip(self, generation: int, reason: str) -> None:
        """Record that a generation will not be served."""
        self._append({"record": "skipped", "generation": generation, "reason": reason})
        self.skipped[generation] = reason

    def _replay(self, line: dict[str, Any], settings: Mapping[str, object]) -> None:
        record = line.pop("record")
        if record == "open":
            for name, now in settings.items():
                if line[name] != now:
                    raise QueueMismatch(
                        f"{self._path} was granted with {name} {line[name]}, the run now says "
                        f"{now}; resume with the run's own config.json, or start a new run"
                    )
        elif record == "switch":
            self.state = add_switch(self.state, Switch(**line))
        elif record == "granted":
            self.state = add_grant(self.state, line["through_step"])
        elif record == "skipped":
            self.skipped[line["generation"]] = line["reason"]
        else:
            raise ValueError(f"{self._path} holds an unknown record {record!r}")

    def _append(self, record: dict[str, object]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            raw = (json.dumps(record) + "\n").encode()
            if os.write(descriptor, raw) != len(raw):
                # A full disk: what was written has no end of line and is cut at the next start.
                raise OSError(f"{self._path} took only a part of a record; is the disk full?")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _cut_torn_line(self) -> None:
        """Drop a last line that a killed writer left unfinished: no answer depended on it."""
        if not self._path.is_file():
            return
        raw = self._path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) != len(raw):
            os.truncate(self._path, len(whole))


def _read_strictly(path: Path) -> list[dict[str, Any]]:
    """Read every record; unlike an event, none may be passed over."""
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            record["record"]
        except (ValueError, TypeError, KeyError) as error:
            raise CorruptJournal(
                f"{path} line {number} is damaged ({error}): which rows were granted is lost; "
                "restore the file, or start a new run with --name"
            ) from error
        records.append(record)
    return records
