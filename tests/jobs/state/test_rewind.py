from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from facequarry.datasets.disk.fence import LockLost
from facequarry.datasets.disk.lock import LockHeld, WriterLock
from facequarry.datasets.disk.publish import flush
from facequarry.datasets.generations.triplets import GenerationChanged, Lease
from facequarry.datasets.runs.events import EventLog, last_attempt_by_step, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.state.rewind import Rewound, kept_records, rewind
from facequarry.miner.queue.journal import CorruptJournal, Journal, next_generation_number
from facequarry.miner.queue.queue import Switch, lease_at
from facequarry.miner.queue.records import read_records
from facequarry.miner.queue.serve import QueueSettings, TripletQueue
from facequarry.trainer.checkpoints.checkpoint import publish_checkpoint
from tests.miner.generations import publish

EVERY, STEPS = 4, 20
SETTINGS = QueueSettings(
    batch=4,
    carry_over=0.5,
    seed=0,
    prefetch=3,
    random_until_mined=False,
    block_every=None,
)


def checkpoint(run: RunDir, step: int) -> None:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, step)
    publish_checkpoint(
        run,
        step,
        model,
        backbone="compact",
        embedding_dim=2,
        crop_px=32,
        trainer_state={"optimizer": torch.tensor(step)},
    )


def train(run: RunDir, *, first: int, last: int, attempt: int) -> list[Lease]:
    """Take the steps from `first` to `last`; each checkpoint is mined two steps later."""
    queue = TripletQueue(run, SETTINGS, attempt=attempt)
    log = EventLog(run.events, "trainer", attempt=attempt)
    log.write("start", step=first)
    leases = []
    for step in range(first, last):
        if step % EVERY == 0 and step not in run.checkpoint_steps():
            checkpoint(run, step)
        if step in (0, *range(EVERY + 2, last, EVERY)):
            mined_at_step = step // EVERY * EVERY
            number = next_generation_number(run)
            publish(run, number, mined_at_step=mined_at_step, first_face=100 * number)
        lease = queue.ask(step)
        assert isinstance(lease, Lease)
        leases.append(lease)
        log.write("step", step=step)
    return leases


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    train(run, first=0, last=STEPS, attempt=1)
    for step in (0, 8, 16):
        folder = run.evaluation(step, "held_out" if step < 16 else "tuning")
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")
    return run


def everything(run: RunDir) -> dict[str, bytes]:
    """Return what a resumed run reads, by name."""
    folders = (run.checkpoints, run.generations, run.evaluations)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files.append(run.queue_journal)
    return {str(path.relative_to(run.root)): path.read_bytes() for path in sorted(files)}


def test_what_lies_beyond_the_step_is_moved_and_nothing_else(run: RunDir) -> None:
    before = everything(run)
    rewound = rewind(run, 8)
    assert (rewound.checkpoint_steps, rewound.generations) == ((12, 16), (3, 4))
    assert rewound.evaluations == ("step=000000016-tuning",)
    assert run.checkpoint_steps() == [0, 4, 8]
    assert run.generation_numbers() == [0, 1, 2]
    assert rewound.abandoned is not None
    after = everything(run)
    for name, raw in before.items():
        at = rewound.abandoned / name
        assert (
            at.read_bytes() if name not in after else after[name]
        ) == raw or name == "queue.jsonl"
    assert (rewound.abandoned / "queue.jsonl").read_bytes() == before["queue.jsonl"]


def test_training_goes_on_from_there_with_the_same_rows_up_to_it(run: RunDir) -> None:
    queue = TripletQueue(run, SETTINGS, attempt=1)
    before = [queue.ask(step) for step in range(8)]
    rewind(run, 8)
    again = TripletQueue(run, SETTINGS, attempt=2)
    assert [again.ask(step) for step in range(8)] == before
    leases = train(run, first=8, last=STEPS, attempt=2)
    assert leases[0].generation == 2  # mined at step 8, so it is kept, and takes over at once
    assert [lease.step for lease in leases] == list(range(8, STEPS))
    assert next_generation_number(run) == run.generation_numbers()[-1] + 1


def test_readers_of_events_no_longer_show_the_abandoned_steps(run: RunDir) -> None:
    rewind(run, 8)

    def shown() -> list[tuple[int, int]]:
        steps = last_attempt_by_step(read_events(run.events, "trainer"), "step")
        return [(event["step"], event["attempt"]) for event in steps]

    assert shown() == [(step, 1) for step in range(8)]
    switches = last_attempt_by_step(read_events(run.events, "queue"), "switch")
    assert [event["generation"] for event in switches] == [0, 1]
    train(run, first=8, last=10, attempt=2)
    assert shown() == [(step, 1) for step in range(8)] + [(8, 2), (9, 2)]


def test_going_back_to_step_0_leaves_what_was_mined_there(run: RunDir) -> None:
    rewound = rewind(run, 0)
    assert run.checkpoint_steps() == [0]
    assert run.generation_numbers() == [0]
    assert rewound.granted_steps == STEPS + 1
    leases = train(run, first=0, last=STEPS, attempt=2)
    assert leases[0].ranges[0].start == 0


def test_a_second_time_there_is_nothing_to_move(run: RunDir) -> None:
    rewind(run, 8)
    before = everything(run)
    again = rewind(run, 8)
    assert (again.checkpoint_steps, again.generations, again.granted_steps) == ((), (), 0)
    assert again.abandoned is None
    assert everything(run) == before


@pytest.mark.parametrize("step", [5, 400])
def test_a_step_without_a_checkpoint_is_refused_with_those_there_are(
    run: RunDir, step: int
) -> None:
    before = everything(run)
    with pytest.raises(ValueError, match=f"no checkpoint of step {step}; there are 0, 4, 8, 12"):
        rewind(run, step)
    assert everything(run) == before


def test_a_damaged_checkpoint_is_refused(run: RunDir) -> None:
    (run.checkpoint(8) / "trainer.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="step 8 cannot be gone back to: .*; there are 0, 4, 8"):
        rewind(run, 8)


def test_a_run_that_is_being_mined_is_refused(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facequarry.jobs.state.rewind._LOCK_TIMEOUT_S", 0.0)
    with WriterLock(run.miner_lock), pytest.raises(LockHeld):
        rewind(run, 8)


@pytest.mark.parametrize("lock", [RunDir.queue_lock, RunDir.trainer_lock])
def test_a_run_whose_queue_or_trainer_lives_on_is_refused(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, lock: property
) -> None:
    monkeypatch.setattr("facequarry.jobs.state.rewind._LOCK_TIMEOUT_S", 0.0)
    before = everything(run)
    with WriterLock(lock.__get__(run)), pytest.raises(LockHeld):
        rewind(run, 8)
    assert everything(run) == before


def test_a_miner_that_takes_over_meanwhile_keeps_its_journal(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = run.queue_journal.read_bytes()

    def lose(folder: Path) -> None:
        flush(folder)
        if folder == run.evaluations:  # the last that is moved
            run.miner_lock.unlink()

    monkeypatch.setattr("facequarry.jobs.state.rewind.flush", lose)
    with pytest.raises(LockLost):
        rewind(run, 8)
    assert run.queue_journal.read_bytes() == journal
    monkeypatch.undo()
    rewind(run, 8)
    assert run.queue_journal.read_bytes() != journal


def test_a_damaged_generation_that_was_never_served_is_moved_too(run: RunDir) -> None:
    run.generation(5).mkdir()
    (run.generation(5) / "manifest.json").write_text("{ no json")
    assert 5 in rewind(run, 16).generations


def test_what_was_deleted_stays_deleted(run: RunDir) -> None:
    Journal(run.queue_journal, batch=4, carry_over=0.5, seed=0).delete(0)
    rewind(run, 8)
    assert '"deleted"' in run.queue_journal.read_text()
    assert next_generation_number(run) == 3


def test_a_cut_journal_is_chained_anew(run: RunDir) -> None:
    records = read_records(run.queue_journal)  # as before there were checks
    run.queue_journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    rewind(run, 8)
    lines = run.queue_journal.read_text().splitlines()
    assert all('"check"' in line for line in lines)
    run.queue_journal.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    with pytest.raises(CorruptJournal, match="line 2 is damaged"):
        read_records(run.queue_journal)


@pytest.mark.parametrize("value", ['"9"', "-7", "41.5", "true"])
def test_a_damaged_journal_is_refused_and_left_behind_on_the_way_to_step_0(
    run: RunDir, value: str
) -> None:
    damaged = run.queue_journal.read_text().replace('"through_step": 2', f'"through_step": {value}')
    run.queue_journal.write_text(damaged)
    with pytest.raises(CorruptJournal, match="line 3 is damaged .* with --resume-from 0"):
        rewind(run, 8)
    rewound = rewind(run, 0)
    assert rewound.abandoned is not None
    assert (rewound.abandoned / "queue.jsonl").read_text() == damaged
    assert run.checkpoint_steps() == [0]
    assert train(run, first=0, last=STEPS, attempt=2)[0].ranges[0].start == 0


def test_a_changed_mined_at_step_does_not_keep_a_generation(run: RunDir) -> None:
    path = run.generation(4) / "manifest.json"
    path.write_text(path.read_text().replace('"mined_at_step": 16', '"mined_at_step": 4'))
    assert rewind(run, 8).generations == (3, 4)


@settings(max_examples=150, deadline=None)
@given(
    events=st.lists(
        st.one_of(
            st.tuples(st.just("switch"), st.integers(0, 9)),
            st.tuples(st.just("granted"), st.integers(1, 6)),
            st.tuples(st.just("skipped"), st.just(0)),
            st.tuples(st.just("deleted"), st.just(0)),
        ),
        max_size=25,
    ),
    carry_over=st.sampled_from([0.0, 0.5]),
    step=st.integers(0, 60),
)
def test_a_cut_journal_grants_what_it_did_below_the_step_and_nothing_from_it_on(
    events: list[tuple[str, int]], carry_over: float, step: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "queue.jsonl"
        opened = {"batch": 4, "carry_over": carry_over, "seed": 0}
        journal = Journal(path, **opened)  # type: ignore[arg-type]
        number = 0
        for event, amount in events:
            match event:
                case "switch":
                    first_step = journal.state.granted_through + 1
                    journal.switch(Switch(number, first_step, 4 + amount, 0))
                    number += 1
                case "granted" if journal.state.switches:
                    journal.grant(journal.state.granted_through + amount)
                case "skipped":
                    journal.skip(number, "too small")
                    number += 1
                case "deleted":
                    journal.delete(0)
        whole = journal.state
        records = kept_records(read_records(path), step)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        cut = Journal(path, **opened)  # type: ignore[arg-type]
        assert kept_records(read_records(path), step) == records
    assert cut.state.granted_through == min(whole.granted_through, step - 1)
    assert all(switch.first_step < step for switch in cut.state.switches)
    assert cut.deleted == journal.deleted
    for granted in range(cut.state.granted_through + 1):
        assert lease_at(cut.state, granted) == lease_at(whole, granted)


class Killed(BaseException):
    """No handler in the code under test may take it for an error of its own."""


def count_file_operations(
    monkeypatch: pytest.MonkeyPatch, dies_at: int, work: Callable[[], Rewound]
) -> int:
    """Do the work, dying before the file operation number `dies_at`; return how many there were."""
    done = 0

    def counted(operation: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **named: object) -> object:
            nonlocal done
            if done == dies_at:
                raise Killed
            done += 1
            return operation(*args, **named)

        return call

    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "link", "mkdir"):
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(Path, "write_text", counted(Path.write_text))
        work()
    return done


def test_a_kill_at_any_file_operation_is_finished_by_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunDir(tmp_path / "whole")
    answers = train(whole, first=0, last=STEPS, attempt=1)
    journal = whole.queue_journal.read_bytes()
    num_operations = count_file_operations(monkeypatch, -1, lambda: rewind(whole, 8))
    assert num_operations > 8
    for dies_at in range(num_operations):
        run = RunDir(tmp_path / f"killed-{dies_at}")
        train(run, first=0, last=STEPS, attempt=1)
        with pytest.raises(Killed):
            count_file_operations(monkeypatch, dies_at, lambda run=run: rewind(run, 8))  # type: ignore[misc]
        if run.queue_journal.read_bytes() == journal:  # it is cut last
            refuses_or_answers_as_before(run, answers)
        rewind(run, 8)
        assert names(run) == names(whole)
        assert run.queue_journal.read_bytes() == whole.queue_journal.read_bytes()
        leases = train(run, first=8, last=STEPS, attempt=2)
        assert len(leases) == STEPS - 8


def refuses_or_answers_as_before(run: RunDir, answers: list[Lease]) -> None:
    """Ask for every step that a half-rewound run would train on."""
    queue = TripletQueue(run, SETTINGS, attempt=1)
    for step in range(run.checkpoint_steps()[-1], STEPS):
        try:
            assert queue.ask(step) == answers[step]
        except GenerationChanged as error:
            assert "--resume-from " in str(error)


def names(run: RunDir) -> list[str]:
    folders = (run.checkpoints, run.generations, run.evaluations)
    return sorted(str(p.relative_to(run.root)) for folder in folders for p in folder.rglob("*"))
