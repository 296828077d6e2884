"""Refreshes of a part of the identities, as they are published, replayed and followed by others."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from facequarry.datasets.faces.split import Split
from facequarry.datasets.generations.triplets import read_generation_manifest
from facequarry.datasets.runs.events import EventLog
from facequarry.miner.config import MinerConfig
from facequarry.miner.refresh.budget.budget import Budget
from facequarry.miner.refresh.budget.rotation import IDENTITIES_FILE, read_rotation
from facequarry.miner.refresh.replay import replay_generation
from tests.miner.small_run import PLAN, SmallRun, copied
from tests.trainer.stores import IDENTITIES, publish

CONFIG = MinerConfig(fallback=("easy", "hard"), threads=1)
BUDGET = Budget(steps=9, share=0.8, least_rows=1, first_faces=8)
PART = replace(
    PLAN, config=CONFIG, split=Split(train=0.95, tuning=0.0), rows_needed=None, budget=BUDGET
)
ALL_FIRST = replace(PART, budget=replace(BUDGET, first_faces=None))


def identities_of(small: SmallRun, number: int) -> list[int]:
    """Return whom a generation embedded."""
    folder = small.run.generation(number)
    rotation = read_rotation(folder, read_generation_manifest(folder))
    assert rotation is not None
    return sorted(rotation.embedded_by(number).tolist())


def mined_identities(small: SmallRun, number: int) -> list[int]:
    """Mine a part and return whom."""
    small.mine(number, plan=PART)
    return identities_of(small, number)


def trained_identities(small: SmallRun) -> list[int]:
    store = small.at.open()
    return sorted(set(store.identity_index[PART.split.faces(store, "train")].tolist()))


def steps_took(small: SmallRun, step_s: float, steps: range) -> None:
    log = EventLog(small.run.events, "trainer", attempt=1)
    for step in steps:
        log.write("step", step=step, step_s=step_s)


def ticking() -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += 1


def test_each_identity_has_its_turn_once_a_cycle(small: SmallRun) -> None:
    everyone = trained_identities(small)
    turns: list[list[int]] = []
    while sum(len(turn) for turn in turns) < len(everyone):
        turns.append(mined_identities(small, len(turns)))
    assert len(turns) >= 2
    assert sorted(sum(turns, [])) == everyone
    left = [e["identities_left"] for e in small.events() if e["event"] == "published"]
    assert left[-1] == 0 < left[0]
    # Another cycle: everyone again.
    assert mined_identities(small, len(turns))


def test_a_part_is_replayed_byte_for_byte_whatever_was_deleted_since(small: SmallRun) -> None:
    for number in (0, 1):
        small.mine(number, plan=PART)
    assert identities_of(small, 0) != identities_of(small, 1)
    for gone in (None, 0):
        if gone is not None:
            shutil.rmtree(small.run.generation(gone))
        steps_took(small, 100.0, range(5))  # a replay does not look at what things take
        assert replay_generation(small.run, small.at, 1).difference is None


def test_the_same_refresh_chooses_the_same_part(
    small: SmallRun, trained: SmallRun, tmp_path: Path
) -> None:
    other = copied(trained, tmp_path / "other")
    manifests = [one.mine(0, plan=PART) for one in (small, other)]
    assert manifests[0]["plan"] == manifests[1]["plan"]
    named = manifests[0]["plan"]["identities"]
    assert named["embedded"] == manifests[0]["stats"]["num_identities"]
    assert named["embedded"] + named["left"] == named["cycle"] == len(trained_identities(small))


def test_a_damaged_cycle_is_not_replayed_and_begins_anew(
    small: SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    small.mine(0, plan=PART)
    (small.run.generation(0) / IDENTITIES_FILE).write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"says which identities were embedded, and is missing"):
        replay_generation(small.run, small.at, 0)
    with caplog.at_level(logging.WARNING):
        manifest = small.mine(1, plan=PART)
    assert "identities are taken in turn from the start again" in caplog.text
    named = manifest["plan"]["identities"]
    assert named["left"] == named["cycle"] - named["embedded"]


def test_identities_that_were_ingested_since_are_next(trained: SmallRun, tmp_path: Path) -> None:
    small = replace(copied(trained, tmp_path), at=publish(tmp_path, IDENTITIES))
    small.mine(0, plan=PART)
    before = set(trained_identities(small))
    publish(tmp_path, dict.fromkeys(map("new{:03d}".format, range(9)), 4))
    assert not before & set(mined_identities(small, 1))
    assert small.events()[-1]["new_identities"] > 0


def test_a_budget_that_holds_all_embeds_all_as_without_one(
    small: SmallRun, trained: SmallRun, tmp_path: Path
) -> None:
    other = copied(trained, tmp_path / "other")
    ours, theirs = small.mine(0, plan=ALL_FIRST), other.mine(0, plan=replace(PART, budget=None))
    assert ours["plan"]["identities"] is None
    assert ours["parts"] == theirs["parts"]


def test_those_who_look_alike_are_asked_of_the_weights_once_a_cycle(small: SmallRun) -> None:
    half = replace(PART, budget=replace(BUDGET, first_faces=20))
    for number in (0, 1):
        small.mine(number, plan=half)
    asked = [e["probe_faces"] for e in small.events() if e["event"] == "published"]
    assert asked == [len(trained_identities(small)), 0]
    assert replay_generation(small.run, small.at, 1).difference is None


def test_the_forecast_stands_beside_what_happened(small: SmallRun) -> None:
    clock = ticking()
    full = small.mine(0, plan=ALL_FIRST, clock=lambda: next(clock))
    steps_took(small, 1.0, range(6))
    laps = ticking()

    def clock_of_a_slow_refresh() -> float:
        # Each stage takes a second and three steps.
        steps_took(small, 1.0, range(3 * int(now := next(laps)), 3 * int(now) + 3))
        return now

    manifest = small.mine(1, plan=ALL_FIRST, clock=clock_of_a_slow_refresh)
    # Each stage took a second, five of them whatever is embedded: 2.2 of 7.2 are left for faces.
    planned, event = manifest["timing"]["forecast"], small.events()[-1]
    assert planned["fixed_s"] == 5.0
    assert planned["faces"] == manifest["stats"]["num_embedded"] == full["stats"]["num_embedded"]
    assert planned["forecast_steps"] == planned["forecast_s"] == event["forecast_s"] == 7.0
    assert (event["budget_steps"], event["refresh_steps"]) == (9, 21)
    assert not event["within_budget"]
    # The next one is told of fewer steps.
    less = replace(PART, budget=replace(BUDGET, steps=8, first_faces=None))
    manifest = small.mine(2, plan=less)
    assert manifest["timing"]["forecast"]["faces"] < planned["faces"]
    assert manifest["timing"]["forecast"]["forecast_s"] <= 6.4
    assert small.events()[-1]["within_budget"]


def test_a_budget_below_the_least_says_so_and_mines_the_least(
    small: SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ticking()
    small.mine(0, plan=ALL_FIRST, clock=lambda: next(clock))
    steps_took(small, 1.0, range(6))
    with caplog.at_level(logging.WARNING):
        manifest = small.mine(1, plan=replace(PART, budget=replace(BUDGET, steps=1)))
    assert manifest["plan"]["identities"]["embedded"] == 2
    assert "should take 5 steps, and refresh.budget = steps allows 1; raise" in caplog.text
