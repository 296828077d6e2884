from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from datasets.run_dir import RunDir
from datasets.triplets import TRIPLETS, Lease, publish_generation
from miner.empty import EmptyGeneration
from miner.journal import CorruptJournal, Journal
from miner.queue import QueueMismatch, Switch
from miner.serve import QueueSettings, TripletQueue, Wait

BATCH = 4


def settings(**changed: object) -> QueueSettings:
    values: dict[str, object] = {
        "batch": BATCH,
        "carry_over": 0.0,
        "seed": 0,
        "prefetch": 2,
        "random_until_mined": False,
        "block_every": None,
    }
    return QueueSettings(**(values | changed))  # type: ignore[arg-type]


def publish(run: RunDir, number: int, *, mined_at_step: int, rows: int = 40) -> None:
    table = pa.table(
        {
            "anchor": range(rows),
            "positive": range(rows),
            "negative": range(rows),
            "d2_ap": [0.1] * rows,
            "d2_an": [0.2] * rows,
            "kind": ["semi_hard"] * rows,
        }
    ).cast(TRIPLETS)
    publish_generation(
        run.generation(number),
        table,
        pa.table({"reason": pa.array([], pa.string())}),
        number=number,
        mined_at_step=mined_at_step,
        facts={"snapshot": 1},
        timing={},
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


def test_before_the_first_generation_an_ask_waits_and_grants_nothing(run: RunDir) -> None:
    queue = TripletQueue(run, settings(), attempt=1)
    assert queue.ask(0) == Wait("no generation")
    publish(run, 0, mined_at_step=0)
    lease = queue.ask(0)
    assert isinstance(lease, Lease) and lease.generation == 0


def test_random_triplets_serve_until_the_first_generation(run: RunDir) -> None:
    queue = TripletQueue(run, settings(random_until_mined=True), attempt=1)
    first = queue.ask(0)
    assert isinstance(first, Lease) and first.generation is None and first.num_rows == BATCH
    publish(run, 0, mined_at_step=0)
    granted = queue.ask(1)  # granted together with step 0
    assert isinstance(granted, Lease) and granted.generation is None
    taken_over = queue.ask(2)
    assert isinstance(taken_over, Lease) and taken_over.generation == 0


def test_a_generation_takes_over_after_the_last_granted_step(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, settings(prefetch=3), attempt=1)
    queue.ask(0)
    publish(run, 1, mined_at_step=1)
    served = [queue.ask(step) for step in range(5)]
    assert [lease.generation for lease in served if isinstance(lease, Lease)] == [0, 0, 0, 1, 1]


def test_a_restarted_queue_gives_the_same_answers(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, settings(), attempt=1)
    before: list[Lease | Wait] = [queue.ask(step) for step in range(6)]
    publish(run, 1, mined_at_step=4)
    again = TripletQueue(run, settings(), attempt=2)
    assert [again.ask(step) for step in range(6)] == before
    after = again.ask(6)
    assert isinstance(after, Lease) and after.generation == 1


def test_a_torn_last_line_of_the_journal_is_dropped(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, settings(), attempt=1)
    before = queue.ask(0)
    with run.queue_journal.open("a") as file:
        file.write('{"record": "granted", "thr')
    again = TripletQueue(run, settings(), attempt=2)
    assert again.ask(0) == before
    assert isinstance(again.ask(2), Lease)
    records = [json.loads(line) for line in run.queue_journal.read_text().splitlines()]
    assert [record["record"] for record in records] == ["open", "switch", "granted", "granted"]


def test_a_damaged_record_is_refused_rather_than_passed_over(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, settings(), attempt=1)
    queue.ask(0)
    lines = run.queue_journal.read_text().splitlines()
    lines[1] = lines[1][:-6]
    run.queue_journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(CorruptJournal, match="line 2 is damaged"):
        TripletQueue(run, settings(), attempt=2)


def test_a_small_generation_is_skipped_and_recorded(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    publish(run, 1, mined_at_step=5, rows=BATCH - 1)
    queue = TripletQueue(run, settings(), attempt=1)
    lease = queue.ask(0)
    assert isinstance(lease, Lease) and lease.generation == 0
    assert '"skipped", "generation": 1' in run.queue_journal.read_text()
    again = TripletQueue(run, settings(), attempt=2)
    assert isinstance(again.ask(4), Lease)
    assert run.queue_journal.read_text().count("skipped") == 1


def test_a_first_generation_that_is_too_small_is_said_at_once(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0, rows=BATCH - 1)
    queue = TripletQueue(run, settings(), attempt=1)
    for _ in range(2):
        with pytest.raises(EmptyGeneration, match="3 rows, one batch is 4.*on_empty = random"):
            queue.ask(0)


def test_only_the_newest_of_several_generations_is_served(run: RunDir) -> None:
    for number in range(3):
        publish(run, number, mined_at_step=10 * number)
    queue = TripletQueue(run, settings(), attempt=1)
    lease = queue.ask(0)
    assert isinstance(lease, Lease) and lease.generation == 2
    assert run.queue_journal.read_text().count("skipped") == 2


def test_a_generation_of_an_older_checkpoint_does_not_take_over(run: RunDir) -> None:
    publish(run, 0, mined_at_step=40)
    queue = TripletQueue(run, settings(), attempt=1)
    queue.ask(0)
    publish(run, 1, mined_at_step=10)
    lease = queue.ask(2)
    assert isinstance(lease, Lease) and lease.generation == 0
    assert "mined at step 10" in run.queue_journal.read_text()


def test_blocking_refresh_stops_grants_at_the_checkpoint_step(run: RunDir) -> None:
    publish(run, 0, mined_at_step=0)
    queue = TripletQueue(run, settings(prefetch=4, block_every=6), attempt=1)
    assert [isinstance(queue.ask(step), Lease) for step in range(7)] == [True] * 6 + [False]
    publish(run, 1, mined_at_step=6)
    lease = queue.ask(6)
    assert isinstance(lease, Lease) and lease.generation == 1 and lease.ranges[0].start == 0


@pytest.mark.parametrize(("name", "value"), [("batch", 8), ("carry_over", 0.5), ("seed", 1)])
def test_resuming_with_other_settings_is_refused(run: RunDir, name: str, value: object) -> None:
    TripletQueue(run, settings(), attempt=1)
    with pytest.raises(QueueMismatch, match=name):
        TripletQueue(run, settings(**{name: value}), attempt=2)


def test_a_record_is_durable_before_the_state_changes(run: RunDir) -> None:
    journal = Journal(run.queue_journal, batch=BATCH, carry_over=0.0, seed=0)
    journal.switch(Switch(0, 0, 10, 0))
    journal.grant(3)
    again = Journal(run.queue_journal, batch=BATCH, carry_over=0.0, seed=0)
    assert again.state == journal.state
