from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facequarry.datasets.disk.lock import LockHeld
from facequarry.datasets.disk.publish import dump_json
from facequarry.datasets.generations.generation_files import damaged_files, first_difference
from facequarry.datasets.generations.triplets import generation_digest, read_generation_manifest
from facequarry.miner.config import MinerConfig
from facequarry.miner.queue.journal import Journal
from facequarry.miner.queue.queue import Switch
from facequarry.miner.refresh.one_miner import mining
from facequarry.miner.refresh.replay import replay_generation, replayable
from tests.miner.small_run import PLAN, SmallRun, copied
from tests.trainer.stores import IDENTITIES, publish


def bytes_of(small: SmallRun, number: int) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in small.run.generation(number).iterdir()}


def edit(small: SmallRun, number: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a published manifest, as no one should."""
    path = small.run.generation(number) / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(dump_json(manifest))


def journaled(small: SmallRun, manifest: dict[str, Any]) -> None:
    """Switch to a generation, as the queue does."""
    journal = Journal(small.run.queue_journal, batch=4, carry_over=0.0, seed=0)
    counts = (manifest["generation"], 0, manifest["rows"], manifest["mined_at_step"])
    journal.switch(Switch(*counts, generation_digest(manifest)))


@pytest.mark.parametrize(
    "config",
    [
        PLAN.config,
        MinerConfig(positives="random", positives_per_anchor=2, max_uses_as_negative=2),
        MinerConfig(engine="faiss", faiss_index="IVF2,Flat", nprobe=2, positive_cap=0.5),
    ],
)
def test_a_replay_is_the_same_byte_for_byte(small: SmallRun, config: MinerConfig) -> None:
    plan = replace(PLAN, config=config)
    for number in (0, 1):
        small.mine(number, step=4 * number, plan=plan)
    for number in (0, 1):
        before = bytes_of(small, number)
        replay = replay_generation(small.run, small.at, number, threads=2)
        assert (replay.difference, replay.damaged, replay.kept) == (None, (), None)
        assert bytes_of(small, number) == before
    assert not (small.run.root / "replays").exists()


def test_a_replay_mines_the_snapshot_of_its_generation(trained: SmallRun, tmp_path: Path) -> None:
    small = replace(copied(trained, tmp_path), at=publish(tmp_path, IDENTITIES))
    small.mine(0)
    publish(tmp_path, dict.fromkeys(map("new{:03d}".format, range(9)), 4))
    assert small.mine(1)["snapshot"] == 2
    for number in (0, 1):
        assert replay_generation(small.run, small.at, number).difference is None


def test_a_replay_needs_no_lock_while_nothing_is_damaged(small: SmallRun) -> None:
    small.mine(0)
    with mining(small.run):
        assert replay_generation(small.run, small.at, 0).difference is None


@pytest.mark.parametrize("name", ["part-00000.parquet", "suspects.parquet"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_files_are_restored(small: SmallRun, name: str, damage: str) -> None:
    manifest = small.mine(0)
    before = bytes_of(small, 0)
    path = small.run.generation(0) / name
    path.unlink() if damage == "gone" else path.write_bytes(before[name][:-9])
    assert damaged_files(small.run.generation(0), manifest) == [name]
    replay = replay_generation(small.run, small.at, 0)
    assert replay.damaged == replay.restored == (name,)
    assert bytes_of(small, 0) == before


def test_nothing_is_restored_under_a_miner_at_work(small: SmallRun) -> None:
    small.mine(0)
    (small.run.generation(0) / "part-00000.parquet").unlink()
    with mining(small.run), pytest.raises(LockHeld):
        replay_generation(small.run, small.at, 0)


def test_a_difference_is_named_and_nothing_is_restored(small: SmallRun) -> None:
    small.mine(0)
    part = small.run.generation(0) / "part-00000.parquet"
    part.write_bytes(b"damaged")

    def other_seed(manifest: dict[str, Any]) -> None:
        manifest["plan"]["seed"] += 1
        manifest["timing"]["made_with"]["torch"] = "1.0"

    edit(small, 0, other_seed)
    replay = replay_generation(small.run, small.at, 0)
    assert replay.difference is not None
    assert replay.difference.startswith("part-00000.parquet has sha256 ")
    assert (replay.damaged, replay.restored) == (("part-00000.parquet",), ())
    assert part.read_bytes() == b"damaged"
    assert any("in place of 1.0" in line for line in replay.made_otherwise)
    assert replay.kept is not None
    kept = read_generation_manifest(replay.kept)
    assert damaged_files(replay.kept, kept) == []
    # The next replay of it takes the place of this one.
    assert replay_generation(small.run, small.at, 0).kept == replay.kept


def test_a_manifest_that_differs_is_named_by_its_key(small: SmallRun) -> None:
    small.mine(0)
    edit(small, 0, lambda manifest: manifest["stats"].update(pairs=7))
    replay = replay_generation(small.run, small.at, 0)
    assert replay.difference is not None
    assert replay.difference.startswith("stats.pairs of the manifest is ")
    assert replay.difference.endswith(" in place of 7")


def test_timing_is_no_difference(small: SmallRun) -> None:
    small.mine(0)
    edit(small, 0, lambda manifest: manifest["timing"].update(embed_s=9.0, token=5))
    assert replay_generation(small.run, small.at, 0).difference is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m["parts"].pop(), "part-00000.parquet has sha256 none (no such file)"),
        (lambda m: m.update(suspects_sha256="f" * 64), "suspects.parquet has sha256 ffffffffffff…"),
        (lambda m: m["config"].pop("margin"), "config.margin of the manifest is absent"),
        (lambda m: m.update(extra=1), "extra of the manifest is new"),
    ],
)
def test_the_first_difference_is_said(
    small: SmallRun, change: Callable[[dict[str, Any]], object], sentence: str
) -> None:
    manifest = small.mine(0)
    other = json.loads(json.dumps(manifest))
    change(other)
    found = first_difference(manifest, other)
    assert found is not None
    assert found.startswith(sentence)


def test_a_pruned_checkpoint_is_said_with_what_can_be_replayed(small: SmallRun) -> None:
    small.mine(0, step=0)
    small.mine(1, step=4)
    assert replayable(small.run) == [0, 1]
    shutil.rmtree(small.run.checkpoint(0))
    with pytest.raises(FileNotFoundError, match=r"step 0 .* is gone; generations that can be: 1$"):
        replay_generation(small.run, small.at, 0)
    assert not (small.run.root / "replays").exists()


def test_other_weights_under_the_same_step_are_refused(small: SmallRun) -> None:
    small.mine(0)
    edit(small, 0, lambda manifest: manifest.update(weight_sha256="0" * 64))
    with pytest.raises(ValueError, match=r"step 4 has other weights .* can be: none$"):
        replay_generation(small.run, small.at, 0)


def test_other_faces_under_the_same_snapshot_are_refused(small: SmallRun) -> None:
    small.mine(0)
    edit(small, 0, lambda manifest: manifest.update(snapshot_sha256="0" * 64))
    with pytest.raises(ValueError, match="snapshot 1 of .* holds other faces"):
        replay_generation(small.run, small.at, 0)


def test_a_generation_that_is_gone_cannot_be_replayed(small: SmallRun) -> None:
    small.mine(0)
    with pytest.raises(ValueError, match="^there is no generation 7; there are 0$"):
        replay_generation(small.run, small.at, 7)


def test_a_manifest_that_is_gone_leaves_only_the_way_back(small: SmallRun) -> None:
    journaled(small, small.mine(0))
    shutil.rmtree(small.run.generation(0))
    with pytest.raises(ValueError, match=r"is gone(?!.*--replay).*--resume-from 0\)$"):
        replay_generation(small.run, small.at, 0)


def test_another_generation_under_the_number_is_not_certified(small: SmallRun) -> None:
    journaled(small, small.mine(0))
    small.mine(1)
    shutil.copytree(small.run.generation(1), small.run.generation(2))
    with pytest.raises(ValueError, match="says generation 1"):
        replay_generation(small.run, small.at, 2)
    shutil.rmtree(small.run.generation(0))
    shutil.copytree(small.run.generation(1), small.run.generation(0))
    edit(small, 0, lambda manifest: manifest.update(generation=0))
    with pytest.raises(ValueError, match="holds other rows than those that were granted"):
        replay_generation(small.run, small.at, 0)


def test_a_changed_mined_at_step_is_not_replayed(small: SmallRun) -> None:
    journaled(small, small.mine(0))
    edit(small, 0, lambda manifest: manifest.update(mined_at_step=0))
    with pytest.raises(ValueError, match="says mined_at_step 0, .* as mined at step 4"):
        replay_generation(small.run, small.at, 0)


def test_a_manifest_that_says_too_little_is_refused(small: SmallRun) -> None:
    small.mine(0)
    edit(small, 0, lambda manifest: manifest["config"].pop("device"))
    with pytest.raises(ValueError, match=r"another version of FaceQuarry \(it differs in device\)"):
        replay_generation(small.run, small.at, 0)


def test_a_generation_embedded_on_a_gpu_is_not_replayed_without_one(
    small: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.mine(0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    edit(small, 0, lambda manifest: manifest["config"].update(device="cuda"))
    with pytest.raises(ValueError, match="embedded on a GPU and PyTorch sees none"):
        replay_generation(small.run, small.at, 0)


def test_one_replay_at_a_time(small: SmallRun) -> None:
    from facequarry.datasets.disk.lock import WriterLock

    small.mine(0)
    with WriterLock(small.run.root / ".replay.lock"), pytest.raises(LockHeld):
        replay_generation(small.run, small.at, 0)
