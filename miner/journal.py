"""The queue's journal on disk: `queue.jsonl`, appended and flushed before an answer leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datasets.events import iterate_lines
from datasets.run_dir import RunDir
from miner.queue import QueueMismatch, QueueState, Switch, add_grant, add_switch


class CorruptJournal(ValueError):
    """A record does not parse: answers that were given from it could not be repeated."""


class Journal:
    """Reads the journal into a `QueueState` and appends to both together.

    Args:
        path: `RunDir.queue_journal`; made with an `open` record if absent.
        batch, carry_over, seed: the run's settings.
        is_read_only: look whether it can be gone on with; no byte of it is touched.

    Raises:
        QueueMismatch: the journal was granted with other settings.
        CorruptJournal: a record is damaged (a torn last line is not: no answer depended on it).
    """

    def __init__(
        self,
        path: Path,
        *,
        batch: int,
        carry_over: float,
        seed: int,
        is_read_only: bool = False,
    ) -> None:
        self._path = path
        if not is_read_only:
            self._cut_torn_line()
        settings = {"batch": batch, "carry_over": carry_over, "seed": seed}
        self.state = QueueState(**settings)  # type: ignore[arg-type]
        self.skipped: dict[int, str] = {}
        self.deleted: set[int] = set()
        records = read_records(path)
        if not records and not is_read_only:
            self._append({"record": "open", **settings})
        for number, record in enumerate(records, start=1):
            try:
                self._replay(record, settings)
            except QueueMismatch:
                raise
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(path, number, error) from error

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

    def delete(self, generation: int) -> None:
        """Record that a generation's files go; its rows will not be asked for again."""
        self._append({"record": "deleted", "generation": generation})
        self.deleted.add(generation)

    def _replay(self, line: dict[str, Any], settings: Mapping[str, object]) -> None:
        fields = dict(line)
        match fields.pop("record"):
            case "open":
                for name, now in settings.items():
                    if fields[name] != now:
                        raise QueueMismatch(
                            f"{self._path} was granted with {name} {fields[name]}, the run now "
                            f"says {now}; resume with the run's own config.json, or start a new run"
                        )
            case "switch":
                self.state = add_switch(self.state, Switch(**fields))
            case "granted":
                self.state = add_grant(self.state, fields["through_step"])
            case "skipped":
                self.skipped[fields["generation"]] = fields["reason"]
            case "deleted":
                self.deleted.add(fields["generation"])
            case unknown:
                raise ValueError(f"unknown record {unknown!r}")

    def _append(self, record: dict[str, object]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self._path.exists()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            try:
                _write_durably(descriptor, (json.dumps(record) + "\n").encode())
            except OSError as error:
                # The next record must neither join a torn line nor repeat this one.
                os.ftruncate(descriptor, size)
                raise OSError(f"{self._path} took no record: {error}; is the disk full?") from error
        finally:
            os.close(descriptor)
        if is_new:
            flush_folder(self._path.parent)

    def _cut_torn_line(self) -> None:
        """Drop a last line that a killed writer left unfinished: no answer depended on it."""
        if not self._path.is_file():
            return
        raw = self._path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) != len(raw):
            os.truncate(self._path, len(whole))


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read every record of a journal; unlike an event, none may be passed over.

    A torn last line is left out: no answer depended on it.

    Raises:
        CorruptJournal: a record is damaged, or the first one does not open the journal.
    """
    if not path.is_file():
        return []
    raw = path.read_bytes()
    records: list[dict[str, Any]] = []
    for number, line in enumerate(raw[: raw.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            record = json.loads(line)
            if (record["record"] == "open") != (number == 1):
                raise ValueError(f"a journal does not go on with {record['record']!r} there")
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(path, number, error) from error
        records.append(record)
    return records


def known_generations(run: RunDir) -> list[int]:
    """Return the numbers of all generations of a run: published now, or named by the journal.

    Unlike the folders, they include those that were deleted; use it to count refreshes.
    """
    named = {
        record["generation"]
        for record in iterate_lines(run.queue_journal)
        if record.get("record") in ("switch", "skipped", "deleted")
    }
    return sorted({*run.generation_numbers(), *(n for n in named if isinstance(n, int))})


def next_generation_number(run: RunDir) -> int:
    """Return the number of the next generation: above each that was published or journaled.

    A number is not given again where a generation was removed: its rows may have been granted.
    `rewind` alone gives numbers back, with the journal's records of them; a lease names its rows by
    their digest as well. A folder without a manifest takes its number too, nothing can be
    published there.
    """
    folders = [path.name.removeprefix("gen=") for path in run.generations.glob("gen=*")]
    taken = [int(number) for number in folders if number.isdigit()]
    return max([*known_generations(run), *taken], default=-1) + 1


def _damaged(path: Path, number: int, error: Exception) -> CorruptJournal:
    return CorruptJournal(
        f"{path} line {number} is damaged ({error}): which rows were granted is lost; "
        "restore the file, or start a new run with --name"
    )


def _write_durably(descriptor: int, raw: bytes) -> None:
    written = os.write(descriptor, raw)
    if written != len(raw):
        raise OSError(f"{written} of {len(raw)} bytes were written")
    os.fsync(descriptor)


def flush_folder(folder: Path) -> None:
    """Bring a folder's names to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
