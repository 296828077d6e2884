from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import facequarry.datasets.disk.publish
from facequarry.datasets.disk.fence import FencedLock, LockLost
from facequarry.datasets.disk.publish import sha256_file, sweep_staging
from facequarry.datasets.generations.triplets import read_table
from facequarry.datasets.runs.vocabulary import MINE_STAGES, REFRESH_STAGES, names
from facequarry.miner.config import MinerConfig
from facequarry.miner.refresh.one_miner import mining
from facequarry.miner.refresh.recipe import resolve_device
from tests.miner.generations import publish
from tests.miner.small_run import PLAN, SmallRun, copied

STAGES = names(REFRESH_STAGES)

_DIE = """
import os, sys
from pathlib import Path
import facequarry.miner.refresh.generation
from tests.miner.small_run import SmallRun
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.refresh.one_miner import mining
from facequarry.trainer.batch.run_faces import FacesAt

write = facequarry.miner.refresh.generation.write_generation
def die(*args, **kwargs):
    write(*args, **kwargs)
    os.kill(os.getpid(), 9)
facequarry.miner.refresh.generation.write_generation = die

run, root, cache = (Path(arg) for arg in sys.argv[1:])
small = SmallRun(RunDir(run), FacesAt(root=root, cache=cache, snapshot=1))
with mining(small.run) as lock:
    small.mine(0, lock=lock)
"""


def ticking() -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += 1


def test_the_same_refresh_publishes_the_same_bytes(
    small: SmallRun, trained: SmallRun, tmp_path: Path
) -> None:
    other = copied(trained, tmp_path / "other")
    manifests, files = [], []
    for one in (small, other):
        manifest = one.mine(0)
        del manifest["timing"]
        manifests.append(manifest)
        files.append([p.read_bytes() for p in sorted(one.run.generation(0).glob("*.parquet"))])
    assert manifests[0] == manifests[1]
    assert files[0] == files[1]
    assert read_table(small.run.generation(0)).num_rows == manifests[0]["rows"] > 0


def test_the_manifest_says_all_that_determines_it(small: SmallRun) -> None:
    manifest = small.mine(1)
    config = manifest["config"]
    assert (config["engine"], config["device"]) == ("exact", resolve_device("auto"))
    assert manifest["plan"]["asked"] == {
        "engine": "auto",
        "anchors": None,
        "device": "auto",
        "rows_needed": 20,
        "budget_steps": None,
    }
    assert manifest["plan"]["identities"] is None
    assert config["anchors"] == manifest["plan"]["anchors"] == manifest["stats"]["num_anchors"]
    assert manifest["plan"]["seed"] == 3 * 1_000_003 + 1
    assert manifest["split"] == {"train": 0.6, "tuning": 0.0, "seed": 0}
    suspects = small.run.generation(1) / "suspects.parquet"
    assert manifest["suspects_sha256"] == sha256_file(suspects)
    assert "threads" not in config


def test_seconds_are_split_by_stage(small: SmallRun) -> None:
    clock = ticking()
    timing = small.mine(0, clock=lambda: next(clock))["timing"]
    seconds = {name for name in timing if name.endswith("_s")}
    inner = {f"{stage}_s" for stage in names(MINE_STAGES)}
    assert seconds == {f"{stage}_s" for stage in STAGES if stage != "publish"} | inner
    published = small.events()[-1]
    assert [published[f"{stage}_s"] for stage in STAGES] == [1.0] * len(STAGES)
    assert published["refresh_s"] == len(STAGES)


def test_events_carry_the_counts(small: SmallRun) -> None:
    stats = small.mine(0)["stats"]
    begin, published = small.events()
    assert (begin["generation"], begin["checkpoint_step"]) == (0, 4)
    names = ("pairs", "semi_hard", "band_empty", "beyond_search", "suspect", "over_max_uses")
    assert {name: published[name] for name in names} == {name: stats[name] for name in names}
    assert published["anchors"] == stats["num_anchors"]


def test_a_generation_without_rows_says_why(small: SmallRun) -> None:
    empty = replace(PLAN, config=MinerConfig(positive_cap=1e-6, threads=1))
    assert small.mine(0, plan=empty)["rows"] == 0
    assert "are over miner.positive_cap (raise it" in small.events()[-1]["reason"]


def test_the_manifest_records_the_token(small: SmallRun) -> None:
    with mining(small.run) as lock:
        assert small.mine(0, lock=lock)["timing"]["token"] == lock.token == 1
    with mining(small.run) as lock:
        assert small.mine(1, lock=lock)["timing"]["token"] == 2


@pytest.mark.parametrize("is_swept", [False, True])
def test_a_miner_that_wakes_up_late_publishes_nothing(small: SmallRun, is_swept: bool) -> None:
    lock = FencedLock(small.run.miner_lock, beat_every_s=None)
    laps = ticking()

    def clock() -> float:
        # While this miner packs, another one takes over.
        if (lap := next(laps)) == len(STAGES) - 1:
            small.run.miner_lock.unlink()
            if is_swept:
                sweep_staging(small.run.generations)
        return lap

    with lock, pytest.raises(LockLost):
        small.mine(0, lock=lock, clock=clock)
    assert small.run.generation_numbers() == []
    assert list(small.run.generations.iterdir()) == []


def test_a_miner_that_loses_its_lock_while_it_brings_files_to_disk_publishes_nothing(
    small: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = facequarry.datasets.disk.publish.flush

    def lose(path: Path) -> None:
        small.run.miner_lock.unlink(missing_ok=True)
        flush(path)

    with mining(small.run) as lock, pytest.raises(LockLost):
        monkeypatch.setattr(facequarry.datasets.disk.publish, "flush", lose)
        small.mine(0, lock=lock)
    assert list(small.run.generations.iterdir()) == []


def test_a_miner_does_not_publish_after_one_with_a_later_token(small: SmallRun) -> None:
    publish(small.run, 0, mined_at_step=0, token=2)
    with FencedLock(small.run.miner_lock) as lock, pytest.raises(LockLost, match="token 2, .* 1"):
        small.mine(1, lock=lock)
    assert small.run.generation_numbers() == [0]


def test_a_lost_file_of_tokens_does_not_stop_mining(small: SmallRun) -> None:
    publish(small.run, 0, mined_at_step=0, token=7)
    small.run.generation(1).mkdir()
    (small.run.generation(1) / "manifest.json").write_text("{ no json")
    with mining(small.run) as lock:
        assert small.mine(2, lock=lock)["timing"]["token"] == 8


def test_a_miner_without_its_lock_does_not_even_begin(small: SmallRun) -> None:
    with FencedLock(small.run.miner_lock) as lock:
        small.run.miner_lock.unlink()
        with pytest.raises(LockLost):
            small.mine(0, lock=lock)
    assert small.events() == []


def test_a_miner_killed_before_it_publishes_leaves_only_what_the_next_sweeps(
    small: SmallRun,
) -> None:
    paths = [small.run.root, small.at.root, small.at.cache]
    command = [sys.executable, "-c", _DIE, *map(str, paths)]
    assert subprocess.run(command, timeout=120, check=False).returncode == -9
    (left,) = small.run.generations.iterdir()
    assert left.name.startswith(".staging-")
    assert (left / "manifest.json").is_file()
    assert small.run.generation_numbers() == []
    with mining(small.run) as lock:
        assert list(small.run.generations.iterdir()) == []
        small.mine(0, lock=lock)
    assert small.run.generation_numbers() == [0]


def test_a_device_that_is_not_there_is_refused(
    small: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    plan = replace(PLAN, config=replace(PLAN.config, device="cuda"))
    with pytest.raises(
        ValueError, match="miner.device is cuda, and torch finds no GPU; set it to auto or cpu"
    ):
        small.mine(0, plan=plan)
    assert small.run.generation_numbers() == []


def test_auto_takes_the_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert [resolve_device(word) for word in ("auto", "cpu", "cuda")] == ["cuda", "cpu", "cuda"]
