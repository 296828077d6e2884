from __future__ import annotations

import json
from pathlib import Path

import pytest

from facequarry.datasets.generations.triplets import GenerationChanged, Lease
from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.journal import CorruptJournal, Journal
from facequarry.miner.queue.queue import QueueMismatch, Switch
from facequarry.miner.queue.serve import QueueSettings, TripletQueue, Wait
from facequarry.miner.queue.too_small import EmptyGeneration
from tests.miner.generations import (
    BATCH,
    publish,
    publish_checkpoint_folder,
    queue_settings,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def test_before_the_first_generation_an_ask_waits_and_grants_nothing(run: RunDir) -> None:
    queue = TripletQueue(run, queue_settings(), attempt=1)
    assert queue.ask(0) == Wait("no generation")
    publish(run, 0, mined_at_step=0)
    lease = queue.ask(0)
    assert isinstance(lease, Lease) and lease.generation == 0


def test_random_triplets_serve_until_the_first_generation(run: RunDir) -> None:
    queue = TripletQueue(run, queue_settings(random_until_mined=True), attempt=1)
    first = queue.ask(0)
    assert isinstance(first, Lease) and first.generation is None and first.num_rows == BATCH
    publish(run, 0, mined_at_step=0)
    granted = queue.ask(1)  # granted together with step 0
    assert isinstance(granted, Lease) and granted.generation is None
    taken_over = queue.ask(2)
    assert isinstance(taken_over, Lease) and taken_over.generation == 0


def test_a_generation_takes_over_after_the_last_granted_step(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, queue_settings(prefetch=3), attempt=1)
    queue.ask(0)
    publish(run, 1, mined_at_step=1)
    served = [queue.ask(step) for step in range(5)]
    assert [lease.generation for lease in served if isinstance(lease, Lease)] == [0, 0, 0, 1, 1]


def test_a_restarted_queue_gives_the_same_answers(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    before: list[Lease | Wait] = [queue.ask(step) for step in range(6)]
    publish(run, 1, mined_at_step=4)
    again = TripletQueue(run, queue_settings(), attempt=2)
    assert [again.ask(step) for step in range(6)] == before
    after = again.ask(6)
    assert isinstance(after, Lease) and after.generation == 1


def test_a_torn_last_line_of_the_journal_is_dropped(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    before = queue.ask(0)
    with run.queue_journal.open("a") as file:
        file.write('{"record": "granted", "thr')
    again = TripletQueue(run, queue_settings(), attempt=2)
    assert again.ask(0) == before
    assert isinstance(again.ask(2), Lease)
    records = [json.loads(line) for line in run.queue_journal.read_text().splitlines()]
    assert [record["record"] for record in records] == ["open", "switch", "granted", "granted"]


def test_a_damaged_record_is_refused_rather_than_passed_over(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    queue.ask(0)
    lines = run.queue_journal.read_text().splitlines()
    lines[1] = lines[1][:-6]
    run.queue_journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(CorruptJournal, match="line 2 is damaged"):
        TripletQueue(run, queue_settings(), attempt=2)


def test_a_small_generation_is_skipped_and_recorded(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    publish(run, 1, mined_at_step=5, rows=BATCH - 1)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    lease = queue.ask(0)
    assert isinstance(lease, Lease) and lease.generation == 0
    assert '"skipped", "generation": 1' in run.queue_journal.read_text()
    again = TripletQueue(run, queue_settings(), attempt=2)
    assert isinstance(again.ask(4), Lease)
    assert run.queue_journal.read_text().count("skipped") == 1


def test_a_first_generation_that_is_too_small_is_said_at_once(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0, rows=BATCH - 1)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    for _ in range(2):
        with pytest.raises(EmptyGeneration, match="3 rows, one batch is 4.*on_empty = random"):
            queue.ask(0)


def test_only_the_newest_of_several_generations_is_served(run: RunDir) -> None:
    for number in range(3):
        publish(run, number, mined_at_step=10 * number)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    lease = queue.ask(0)
    assert isinstance(lease, Lease) and lease.generation == 2
    assert run.queue_journal.read_text().count("skipped") == 2


def test_a_generation_of_an_older_checkpoint_does_not_take_over(run: RunDir) -> None:
    publish(run, 0, mined_at_step=40)
    queue = TripletQueue(run, queue_settings(), attempt=1)
    queue.ask(0)
    publish(run, 1, mined_at_step=10)
    lease = queue.ask(2)
    assert isinstance(lease, Lease) and lease.generation == 0
    assert "mined at step 10" in run.queue_journal.read_text()


def test_blocking_refresh_stops_grants_at_the_checkpoint_step(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, queue_settings(prefetch=4, block_every=6), attempt=1)
    assert [isinstance(queue.ask(step), Lease) for step in range(7)] == [True] * 6 + [False]
    publish(run, 1, mined_at_step=6)
    lease = queue.ask(6)
    assert isinstance(lease, Lease) and lease.generation == 1 and lease.ranges[0].start == 0


@pytest.mark.parametrize(("name", "value"), [("batch", 8), ("carry_over", 0.5), ("seed", 1)])
def test_resuming_with_other_settings_is_refused(run: RunDir, name: str, value: object) -> None:
    TripletQueue(run, queue_settings(), attempt=1)
    with pytest.raises(QueueMismatch, match=name):
        TripletQueue(run, queue_settings(**{name: value}), attempt=2)


def test_a_record_is_durable_before_the_state_changes(run: RunDir) -> None:
    journal = Journal(run.queue_journal, batch=BATCH, carry_over=0.0, seed=0)
    journal.switch(Switch(0, 0, 10, 0))
    journal.grant(3)
    again = Journal(run.queue_journal, batch=BATCH, carry_over=0.0, seed=0)
    assert again.state == journal.state


def test_generations_that_no_checkpoint_can_replay_are_deleted(run: RunDir) -> None:
    queue = serve_generations(run, queue_settings(keep_generations=1), count=4)
    for step in (0, 15, 20):
        publish_checkpoint_folder(run, step)
    publish(run, 4, mined_at_step=16)
    assert isinstance(queue.ask(16), Lease)
    # Generation 1 served steps 4 to 7, generation 2 steps 8 to 11; 3 and 4 are the live ones.
    assert run.generation_numbers() == [3, 4]
    deleted = [e for e in read_events(run.events, "queue") if e["event"] == "deleted"]
    assert [e["generation"] for e in deleted] == [0, 1, 2]
    with pytest.raises(GenerationChanged, match="it was deleted"):
        queue.ask(3)


def test_a_kept_checkpoint_keeps_the_generations_that_it_would_train_on(run: RunDir) -> None:
    queue = serve_generations(run, queue_settings(keep_generations=1), count=4)
    for step in (0, 7, 20):
        publish_checkpoint_folder(run, step)
    publish(run, 4, mined_at_step=16)
    queue.ask(16)
    assert run.generation_numbers() == [1, 2, 3, 4]


def test_a_queue_killed_before_the_files_went_finishes(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = serve_generations(run, queue_settings(keep_generations=1), count=4)
    publish_checkpoint_folder(run, 20)
    publish(run, 4, mined_at_step=16)
    with monkeypatch.context() as patch:
        patch.setattr("facequarry.miner.queue.serve.remove_generation", die)
        with pytest.raises(KeyboardInterrupt):
            queue.ask(16)
    assert '"deleted"' in run.queue_journal.read_text()
    assert run.generation_numbers() == [0, 1, 2, 3, 4]
    again = TripletQueue(run, queue_settings(keep_generations=1), attempt=2)
    assert 0 not in run.generation_numbers()
    assert isinstance(again.ask(16), Lease)
    assert run.generation_numbers() == [3, 4]


def test_files_that_cannot_be_removed_do_not_stop_the_queue(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr("facequarry.miner.queue.serve.remove_generation", refuse)
    queue = serve_generations(run, queue_settings(keep_generations=1), count=4)
    publish_checkpoint_folder(run, 20)
    publish(run, 4, mined_at_step=16)
    assert isinstance(queue.ask(16), Lease)
    events = [e for e in read_events(run.events, "queue") if e["event"] == "not deleted"]
    assert [e["reason"] for e in events] == ["read-only file system"] * 3


def serve_generations(run: RunDir, asked: QueueSettings, *, count: int) -> TripletQueue:
    """Serve each generation for four steps."""
    queue = TripletQueue(run, asked, attempt=1)
    for number in range(count):
        publish(run, number, mined_at_step=4 * number)
        for step in range(4 * number, 4 * number + 4):
            lease = queue.ask(step)
            assert isinstance(lease, Lease) and lease.generation == number
    return queue


def die(_: Path) -> None:
    raise KeyboardInterrupt


def test_a_switch_that_a_killed_queue_did_not_log_is_logged_by_the_next_one(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    TripletQueue(run, queue_settings(), attempt=1).ask(0)
    before = read_events(run.events, "queue")
    (run.events / "queue.jsonl").unlink()
    for attempt in (2, 3):
        TripletQueue(run, queue_settings(), attempt=attempt)
    after = read_events(run.events, "queue")
    assert [e["event"] for e in after] == ["start", "switch", "start"]
    assert {**after[1], "time": 0, "attempt": 0} == {**before[1], "time": 0, "attempt": 0}


def test_skips_and_deletions_that_a_killed_queue_did_not_log_are_logged_by_the_next_one(
    run: RunDir,
) -> None:
    publish(run, 1, mined_at_step=0)
    TripletQueue(run, queue_settings(), attempt=1).ask(0)
    journal = Journal(run.queue_journal, batch=BATCH, carry_over=0.0, seed=0)
    journal.skip(2, "2 rows, one batch is 4")
    journal.delete(0)
    for attempt in (2, 3):
        TripletQueue(run, queue_settings(), attempt=attempt)
    events = [e for e in read_events(run.events, "queue") if e["attempt"] > 1]
    assert [e["event"] for e in events] == ["start", "skipped", "deleted", "start"]
    assert (events[1]["generation"], events[1]["reason"]) == (2, "2 rows, one batch is 4")
    assert events[2]["generation"] == 0


def test_a_skip_of_a_number_that_was_given_again_is_logged_again(run: RunDir) -> None:
    log = EventLog(run.events, "queue", attempt=1)
    log.write("skipped", generation=1, reason="before the run was taken back")
    log.write("rewound", step=0, abandoned=None)
    Journal(run.queue_journal, batch=BATCH, carry_over=0.0, seed=0).skip(1, "since then")
    TripletQueue(run, queue_settings(), attempt=2)
    skipped = [e["reason"] for e in read_events(run.events, "queue") if e["event"] == "skipped"]
    assert skipped[1:] == ["since then"]


def test_a_queue_that_comes_back_says_how_far_it_had_granted(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    TripletQueue(run, queue_settings(), attempt=1).ask(0)
    TripletQueue(run, queue_settings(), attempt=1)
    starts = [e for e in read_events(run.events, "queue") if e["event"] == "start"]
    assert [e["granted_through"] for e in starts] == [-1, 1]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"pairs": 0}, "no anchor had a positive"),
        ({"pairs": 90, "semi_hard": 3, "band_empty": 87}, "87 have none .widen miner.margin"),
        ({"pairs": 90, "semi_hard": 3, "beyond_search": 87}, "raise miner.neighbours_limit"),
        ({"pairs": 9, "semi_hard": 9, "over_max_uses": 7}, "7 rows were over miner.max_uses"),
        ({"pairs": 90, "semi_hard": 3, "suspect": 87}, "raise it, or clean the labels"),
        ({"pairs": 3, "semi_hard": 3}, "lower trainer.batch"),
    ],
)
def test_a_first_generation_that_is_too_small_says_why(
    run: RunDir, counts: dict[str, int], words: str
) -> None:
    plan = {"embedded_faces": 12, "embedded_identities": 4}
    publish(run, 0, mined_at_step=0, rows=BATCH - 1, stats=counts, plan=plan)
    with pytest.raises(EmptyGeneration, match=f"embedded identities 4.*{words}.*= random"):
        TripletQueue(run, queue_settings(), attempt=1).ask(0)
