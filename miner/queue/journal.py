"""The queue's journal on disk: `queue.jsonl`, appended and flushed before an answer leaves."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from facequarry.datasets.disk.errors import BadInput, Failure
from facequarry.datasets.disk.publish import flush
from facequarry.datasets.runs.events import iterate_lines
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.queue import QueueMismatch, QueueState, Switch, add_grant, add_switch
from facequarry.miner.queue.records import (
    CHECK,
    CorruptJournal,
    chained,
    damaged,
    read_chain,
    ways_out,
)

__all__ = [
    "CorruptJournal",
    "Journal",
    "NotRecorded",
    "check_journal",
    "checkpoint_before",
    "known_generations",
    "next_generation_number",
    "switch_to",
]


class NotRecorded(Failure, OSError):
    """The journal took no record, so no answer that depends on it may leave."""


class Journal:
    """Reads the journal into a `QueueState` and appends to both together.

    Args:
        path: `RunDir.queue_journal`; made with an `open` record if absent.
        batch, carry_over, seed: the run's settings.
        is_read_only: look whether it can be gone on with; no byte of it is touched.

    Raises:
        QueueMismatch: the journal was granted with other settings.
        CorruptJournal: a record is damaged or missing (a torn last line is not: no answer depended
            on it).
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
        records, self._check = read_chain(path)
        if not records and not is_read_only:
            self._append({"record": "open", **settings})
        for number, record in enumerate(records, start=1):
            try:
                self._replay(record, settings)
            except QueueMismatch:
                raise
            except (KeyError, TypeError, ValueError) as error:
                raise damaged(path, number, error) from error

    def switch(self, switch: Switch) -> None:
        """Record that a generation takes over.

        Raises:
            NotRecorded: the disk took no record, and nothing changed; as for the next three.
        """
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
        values = dict(line)
        match values.pop("record"):
            case "open":
                for name, now in settings.items():
                    if values[name] != now:
                        raise QueueMismatch(
                            f"{self._path} was granted with {name} {values[name]}, the run now "
                            f"says {now}; resume with the run's own config.json, or start a new run"
                        )
            case "switch":
                self.state = add_switch(self.state, Switch(**values))
            case "granted":
                through_step = values["through_step"]
                if self.state.current is None:
                    raise BadInput(f"step {through_step} is granted of no generation")
                if through_step <= self.state.granted_through:
                    raise BadInput(
                        f"step {through_step} is granted already "
                        f"(through {self.state.granted_through})"
                    )
                self.state = add_grant(self.state, through_step)
            case "skipped":
                self.skipped[values["generation"]] = values["reason"]
            case "deleted":
                self.deleted.add(values["generation"])

    def _append(self, record: dict[str, object]) -> None:
        if self._check is not None:
            record = chained(record, self._check)
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
                raise NotRecorded(
                    f"{self._path} took no record: {error}; is the disk full?"
                ) from error
        finally:
            os.close(descriptor)
        if self._check is not None:
            self._check = str(record[CHECK])
        if is_new:
            flush(self._path.parent)

    def _cut_torn_line(self) -> None:
        """Drop a last line that a killed writer left unfinished: no answer depended on it."""
        if not self._path.is_file():
            return
        raw = self._path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) != len(raw):
            os.truncate(self._path, len(whole))


def check_journal(path: Path, *, batch: int, carry_over: float, seed: int, newest: int) -> None:
    """Check that a journal can be gone on with from a checkpoint; no byte of it is touched.

    Args:
        path: as `Journal` takes it, and the settings.
        batch: B.
        carry_over: 0 to 1.
        seed: the run's.
        newest: the checkpoint's step: each step before it trained on rows that were granted.

    Raises:
        QueueMismatch, CorruptJournal: as `Journal`; or records are missing at its end.
    """
    journal = Journal(path, batch=batch, carry_over=carry_over, seed=seed, is_read_only=True)
    granted = journal.state.granted_through
    if granted < newest - 1:
        until = f"ends at step {granted}" if granted >= 0 else "grants no step"
        raise CorruptJournal(
            f"{path} {until}, and the checkpoint of step {newest} was trained on more: {ways_out()}"
        )


def switch_to(run: RunDir, number: int) -> Switch | None:
    """Return the record that a run's rows come from a generation; None where there is none.

    A damaged journal says what its readable lines do.
    """
    names = {field.name for field in fields(Switch)}
    found = None
    for record in iterate_lines(run.queue_journal):
        if record.get("record") == "switch" and record.get("generation") == number:
            with contextlib.suppress(TypeError):
                found = Switch(**{key: value for key, value in record.items() if key in names})
    return found


def checkpoint_before(run: RunDir, switch: Switch) -> int | None:
    """Return the newest checkpoint from which training can do without a switch's generation.

    What takes over from there on is granted anew. None where there is no such checkpoint.
    """
    steps = [step for step in run.checkpoint_steps() if step <= switch.first_step]
    return max(steps, default=None)


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


def _write_durably(descriptor: int, raw: bytes) -> None:
    written = os.write(descriptor, raw)
    if written != len(raw):
        raise OSError(f"{written} of {len(raw)} bytes were written")
    os.fsync(descriptor)
