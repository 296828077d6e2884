"""The event log of a run: one JSON object a line, one file a stage, appended and never rewritten.

Dashboards, the closing table of a run and TensorBoard all read or mirror these facts. A value's
full name is `<stage>/<field>`, with its unit as the field's last word; `FIELDS` is the table of
all of them. Every line carries the attempt that wrote it: after a restart a step may be logged
again, and readers keep the last attempt of a step.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from facequarry.datasets.runs.vocabulary import OUTCOMES, REFRESH_STAGES, WHEN_CONSUMED

FIELDS: dict[str, str] = {
    "ingest/photos": "photos looked at so far",
    "ingest/faces": "faces in finished shards",
    "ingest/rejects": "rejected photos, by reason",
    "ingest/shards": "finished shards",
    "ingest/snapshot": "number of the published snapshot",
    "ingest/photos_per_s": "photos looked at per second",
    "ingest/left_out": "photos of the source that were not looked at, by reason",
    "ingest/notes": "what else a person should know about the source, counted",
    "ingest/reason": "why an ingest published nothing",
    "trainer/loss_d2": "mean triplet loss of the step's rows over all ranks, squared L2",
    "trainer/active_share": "share of the step's triplets with a loss above zero",
    **{
        f"trainer/{kind.name}_share": "share of the step's triplets that are "
        f"{kind.meaning} in the forward pass"
        for kind in WHEN_CONSUMED
    },
    "trainer/num_triplets": "rows of the step, or triplets found in it; 0 where there were none",
    "trainer/faces_per_triplet": "distinct faces embedded per triplet (3.0 when none is shared)",
    "trainer/staleness_steps": "step minus mined_at_step of the oldest row consumed in the step",
    "trainer/generation": "generation that the step's main rows came from; null for random ones",
    "trainer/grad_norm": "L2 norm of the step's gradient, averaged over the ranks",
    "trainer/learning_rate": "learning rate of the step",
    "trainer/repeats": "rows of the step that this generation had served before",
    "trainer/wait_s": "seconds the step waited for its batch",
    "trainer/step_s": "seconds the step took, waiting included",
    "trainer/faces_per_s": "faces embedded per second over all ranks",
    "trainer/checkpoint_s": "seconds to publish a checkpoint",
    "trainer/deleted_steps": "checkpoints that go once this one is published",
    "trainer/world_size": "training workers",
    "trainer/resumed_step": "step of the checkpoint that training went on from",
    "miner/checkpoint_step": "step of the checkpoint that a refresh mined with",
    "miner/generation": "generation that a refresh published",
    "miner/snapshot": "snapshot of the faces that a refresh mined",
    "miner/faces": "faces embedded",
    "miner/new_identities": "identities mined that the run's first snapshot does not have",
    "miner/rows": "triplets in the generation",
    "miner/rows_by_kind": "triplets by what they were when mined",
    "miner/anchors": "anchors mined",
    "miner/pairs": "ordered anchor-positive pairs looked at",
    **{f"miner/{outcome.name}": f"pairs {outcome.meaning}" for outcome in OUTCOMES},
    "miner/over_max_uses": "rows dropped because their negative served max_uses_as_negative others",
    **{f"miner/{stage.name}_s": f"seconds to {stage.meaning}" for stage in REFRESH_STAGES},
    "miner/refresh_s": "seconds of the whole refresh",
    "miner/refresh_steps": "training steps completed during the refresh",
    "miner/budget_steps": "training steps in which the refresh had to end; null without a budget",
    "miner/forecast_s": "seconds that the refresh should have taken",
    "miner/forecast_steps": "training steps that the refresh should have taken",
    "miner/within_budget": "whether it took no more steps than that",
    "miner/identities": "identities embedded",
    "miner/identities_left": "identities to come before each one had its turn",
    "miner/probe_faces": "faces embedded beforehand, to see which identities look alike",
    "miner/skipped_checkpoints": "checkpoints passed over since the last refresh",
    "miner/reason": "why a refresh failed or published nothing",
    "miner/abandoned": "folder of what lay beyond the step that the run was taken back to",
    "queue/generation": "generation that takes over; null for random triplets",
    "queue/mined_at_step": "step of the checkpoint that the generation was mined with",
    "queue/first_step": "first step served from the generation",
    "queue/rows": "rows of the generation",
    "queue/granted_through": "last step that was granted when the queue started; -1 before any",
    "queue/reason": "why a generation was skipped or not deleted, or an ask waits",
    "queue/abandoned": "folder of what lay beyond the step that the run was taken back to",
    "trainer/abandoned": "folder of what lay beyond the step that the run was taken back to",
    "driver/command": "command that started the attempt",
    "driver/seconds": "seconds the attempt took",
    "driver/reason": "why the attempt or its miner ended, or a lost group of workers came back",
    "driver/restarts": "how often the attempt's group of training workers was brought back",
    "driver/auc": "ROC AUC on the evaluated identities",
    "driver/staleness_bound_steps": "bound on staleness derived from this run's refresh times",
    "driver/max_staleness_steps": "largest staleness measured at consumption",
}

# A stage goes on from the event's step, whatever was logged beyond it.
_BEGINNINGS = ("start", "rewound")


class EventLog:
    """Appends the events of one stage; one writer a file.

    Args:
        folder: the run's `events/` folder, made if absent.
        stage: `ingest`, `trainer`, `miner`, `queue` or `driver`; names the file.
        attempt: how often the run was started, counting from 1.
        clock: seconds since the epoch; a test passes its own.
    """

    def __init__(
        self, folder: Path, stage: str, *, attempt: int, clock: Callable[[], float] = time.time
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{stage}.jsonl"
        self._stage = stage
        self._attempt = attempt
        self._clock = clock
        self._end_torn_line()

    def write(self, event: str, *, step: int | None = None, **fields: object) -> None:
        """Append one line.

        Raises:
            KeyError: a field is not in `FIELDS`; add it there with its meaning.
            OSError: the line could not be written, and nothing of it stays. It ends the writer's
                work: a disk that takes no line takes no checkpoint and no generation either.
        """
        for name in fields:
            if f"{self._stage}/{name}" not in FIELDS:
                raise KeyError(f"{self._stage}/{name} is not in datasets.events.FIELDS")
        line = {"time": self._clock(), "attempt": self._attempt, "event": event, "step": step}
        # JSON has no NaN or infinity: a reader sees null.
        line |= {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in fields.items()
        }
        # One write of one line in append mode: a killed writer leaves at most one torn last line.
        self._append((json.dumps(line) + "\n").encode())

    def _append(self, raw: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            try:
                written = os.write(descriptor, raw)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self._path)) from error
            if written != len(raw):
                # Cut off again: the next line must not join a torn one.
                os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR) - written)
                raise OSError(
                    errno.ENOSPC,
                    f"an event took {written} of {len(raw)} bytes; is the disk full?",
                    str(self._path),
                )
        finally:
            os.close(descriptor)

    def _end_torn_line(self) -> None:
        """Close what a killed writer left open, so that it swallows no line of ours."""
        if not self._path.is_file() or not self._path.stat().st_size:
            return
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            is_torn = file.read() != b"\n"
        if is_torn:
            self._append(b"\n")


def read_events(folder: Path, stage: str) -> list[dict[str, Any]]:
    """Read one stage's events in the order written; a torn last line is left out."""
    return list(iterate_lines(folder / f"{stage}.jsonl"))


class EventTail:
    """Follows one stage's events: each `new()` returns what was written since the last one.

    Args:
        folder: the run's `events/` folder.
        stage: whose.
        last_bytes: begin so far before the end of the file, less than a line of which is lost;
            None begins at the first event.
    """

    def __init__(self, folder: Path, stage: str, *, last_bytes: int | None = None) -> None:
        self._path = folder / f"{stage}.jsonl"
        self._offset = 0
        if last_bytes is not None and self._path.is_file():
            self._offset = max(0, self._path.stat().st_size - last_bytes)

    def new(self) -> list[dict[str, Any]]:
        """Return the complete lines that came since the last call."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            raw = file.read()
        whole = raw[: raw.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(_parse(whole.splitlines()))


def iterate_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete JSON lines of a file; an absent file has none."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        yield from _parse(line for line in file if line.endswith(b"\n"))


def _parse(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue  # torn by a killed writer and ended by the next attempt
        if isinstance(event, dict):
            yield event


def last_attempt_by_step(
    events: Iterable[Mapping[str, Any]], kind: str | None = None
) -> list[dict[str, Any]]:
    """Keep for each step the event of the last attempt that logged it, ordered by step.

    Where training started again (`start`), or the run was taken back to a step (`rewound`), what
    was logged for that step and later ones before is dropped: those steps are taken anew.

    Args:
        events: of one stage, in the order written.
        kind: which events to keep; None keeps all but those that mark a new beginning.
    """
    by_step: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["event"] in _BEGINNINGS:
            if event["step"] is not None:
                by_step = {step: e for step, e in by_step.items() if step < event["step"]}
            continue
        if kind is not None and event["event"] != kind:
            continue
        known = by_step.get(event["step"])
        if known is None or event["attempt"] >= known["attempt"]:
            by_step[event["step"]] = dict(event)
    return [by_step[step] for step in sorted(by_step)]


def standing(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what lies beyond a step that the run was taken back to since (`rewound`).

    A refresh lies where its checkpoint does; what names no step stays.

    Args:
        events: of one stage, in the order written.
    """
    kept: list[dict[str, Any]] = []
    for event in events:
        if event["event"] == "rewound":
            kept = [e for e in kept if (_reach(e) or 0) <= event["step"]]
        else:
            kept.append(dict(event))
    return kept


def _reach(event: Mapping[str, Any]) -> int | None:
    """Return how many steps were complete where an event holds; None where it does not say."""
    step: int | None = event.get("checkpoint_step", event.get("step"))
    return None if step is None else step + (event["event"] == "step")
