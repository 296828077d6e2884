"""The whole loop on a real Ray: rendered faces, two and more refreshes, restart."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.disk.fence import FencedLock
from facequarry.datasets.disk.lock import LockHeld, WriterLock
from facequarry.datasets.faces.split import Split
from facequarry.datasets.generations.triplets import read_generation_manifest, read_table
from facequarry.datasets.runs.events import last_attempt_by_step, read_events, standing
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.datasets.synthetic import write_photos
from facequarry.jobs.cli import main
from facequarry.jobs.config import ClusterConfig, EvaluationConfig, RunConfig
from facequarry.jobs.endings import RunFailed
from facequarry.jobs.pipeline import run_pipeline
from facequarry.jobs.reports.report import RunReport
from facequarry.miner.config import MinerConfig
from facequarry.miner.refresh.refresh_config import RefreshConfig
from facequarry.trainer.config import TrainerConfig
from tests.datasets.photos import publish_plainly, write_tree

pytestmark = pytest.mark.ray

MINER = MinerConfig(positives="random", positives_per_anchor=3, negatives="random")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, ray_cluster: None) -> RunConfig:
    folder = tmp_path_factory.mktemp("loop")
    write_photos(folder / "photos", num_identities=16, photos_per_identity=6)
    return RunConfig(
        name="first",
        runs=folder / "runs",
        faces=folder / "faces",
        photos=folder / "photos",
        ingest=IngestConfig(detector="none", crop_px=48),
        split=Split(train=0.7, tuning=0.0),
        trainer=TrainerConfig(embedding_dim=16, steps=60, batch=24, checkpoint_every=15),
        miner=MINER,
        evaluation=EvaluationConfig(max_pairs=500),
        cluster=ClusterConfig(address="auto"),
    )


@pytest.fixture(scope="module")
def report(config: RunConfig) -> RunReport:
    return run_pipeline(config)


def test_the_loop_refreshes_and_the_loss_falls(report: RunReport) -> None:
    assert report.refreshes >= 2
    assert report.triplets_consumed == 60 * 24
    events = read_events(RunDir(report.root).events, "trainer")
    losses = [event["loss_d2"] for event in events if event["event"] == "step"]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_staleness_stays_below_its_bound(report: RunReport) -> None:
    assert report.max_staleness_steps < report.staleness_bound_steps


def test_held_out_identities_are_told_apart_better_than_before(report: RunReport) -> None:
    assert report.after.verification.auc > report.before.verification.auc


def test_mined_triplets_are_semi_hard_and_of_training_identities(
    report: RunReport, config: RunConfig
) -> None:
    from facequarry.datasets.faces.store import FaceStore

    run = RunDir(report.root)
    store = FaceStore.open(config.faces, config.faces / "cache")
    train = set(config.split.faces(store, "train").tolist())
    for number in run.generation_numbers():
        rows = read_table(run.generation(number)).to_pydict()
        assert set(rows["kind"]) == {"semi_hard"}
        for d2_ap, d2_an in zip(rows["d2_ap"], rows["d2_an"], strict=True):
            assert d2_ap < d2_an < d2_ap + MINER.margin + 1e-6
        faces = [set(rows[column]) for column in ("anchor", "positive", "negative")]
        assert set.union(*faces) <= train


def test_a_generation_names_all_that_determines_it(report: RunReport) -> None:
    run = RunDir(report.root)
    manifest = read_generation_manifest(run.generation(0))
    checkpoint = json.loads((run.checkpoint(0) / "manifest.json").read_text())
    assert manifest["weight_sha256"] == checkpoint["weight_sha256"]
    assert (manifest["mined_at_step"], manifest["snapshot"]) == (0, 1)
    assert manifest["config"]["margin"] == MINER.margin
    stats = manifest["stats"]
    parts = ("semi_hard", "band_empty", "beyond_search", "suspect")
    assert stats["pairs"] == sum(stats[name] for name in parts)


def test_the_pictures_and_evaluations_are_there(report: RunReport) -> None:
    assert {"loss", "roc", "d2", "staleness", "mining", "triplets"} <= set(report.pictures)
    assert all(path.stat().st_size > 5000 for path in report.pictures.values())
    assert RunDir(report.root).evaluation_steps() == [0, 60]


def test_a_longer_run_goes_on_from_the_last_checkpoint(
    report: RunReport, config: RunConfig
) -> None:
    longer = replace(config, trainer=replace(config.trainer, steps=75))
    assert run_pipeline(longer, resume=True).triplets_consumed == 75 * 24
    events = read_events(RunDir(report.root).events, "trainer")
    starts = [event["resumed_step"] for event in events if event["event"] == "start"]
    assert starts == [0, 60]
    steps = last_attempt_by_step([event for event in events if event["event"] == "step"])
    assert [event["step"] for event in steps] == list(range(75))


def test_two_workers_train_on_random_triplets(config: RunConfig) -> None:
    two = replace(
        config,
        name="two",
        trainer=replace(config.trainer, selection="random", workers=2, steps=10),
    )
    done = run_pipeline(two)
    assert done.refreshes == 0
    events = read_events(RunDir(done.root).events, "trainer")
    assert {e["generation"] for e in events if e["event"] == "step"} == {None}
    assert [e["world_size"] for e in events if e["event"] == "start"] == [2]


@pytest.fixture(scope="module")
def blocking(config: RunConfig, report: RunReport) -> RunReport:
    """A blocking run; faces are ingested when it trains already and has mined nothing yet."""
    config = replace(
        config,
        name="blocking",
        trainer=replace(config.trainer, steps=30),
        refresh=RefreshConfig(mode="blocking"),
    )
    run = RunDir(config.runs / config.name)
    people = [name for name in map("late{}".format, range(9)) if config.split.of(name) == "train"]
    photos = write_tree(config.runs.parent / "late", dict.fromkeys(people, 4))
    no_miner = contextlib.ExitStack()
    no_miner.enter_context(FencedLock(run.miner_lock))

    def ingest_more() -> None:
        deadline, pause = time.monotonic() + 120, threading.Event()
        with no_miner:
            while not run.checkpoint_steps():
                assert time.monotonic() < deadline, "no checkpoint within 120 s"
                pause.wait(0.05)
            publish_plainly(photos, config.faces, config.ingest)

    with ThreadPoolExecutor(1) as pool:
        ingesting = pool.submit(ingest_more)
        done = run_pipeline(config)
        ingesting.result()
    return done


def test_blocking_refresh_is_never_older_than_its_interval(blocking: RunReport) -> None:
    run = RunDir(blocking.root)
    steps = [e for e in read_events(run.events, "trainer") if e["event"] == "step"]
    assert [event["staleness_steps"] for event in steps] == [*range(15), *range(15)]


def test_faces_that_are_ingested_while_a_run_trains_are_mined_and_trained_on(
    blocking: RunReport,
) -> None:
    run = RunDir(blocking.root)
    assert (blocking.snapshots, blocking.faces) == ("1, mining snapshot 2", 96)
    published = [e for e in read_events(run.events, "miner") if e["event"] == "published"]
    assert all((e["snapshot"], e["new_identities"] > 2) == (2, True) for e in published)
    for number in run.generation_numbers():
        assert max(read_table(run.generation(number))["anchor"].to_pylist()) >= 96


def test_mining_that_never_succeeds_ends_the_run_with_its_reason(config: RunConfig) -> None:
    # That so few faces cannot train this index is found out only by the miner.
    bad = replace(
        config,
        name="bad",
        miner=replace(MINER, engine="faiss", faiss_index="PQ8"),
        refresh=RefreshConfig(max_failures=2),
    )
    with pytest.raises(RunFailed, match="PQ8"):
        run_pipeline(bad)
    events = read_events(RunDir(config.runs / "bad").events, "driver")
    (ended,) = [event for event in events if event["event"] == "miner ended"]
    assert "PQ8" in ended["reason"]


def test_a_finished_run_that_is_taken_back_ends_with_the_same_weights(
    config: RunConfig, report: RunReport, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = replace(
        config,
        name="twice",
        photos=None,
        trainer=replace(config.trainer, steps=16, checkpoint_every=8),
        refresh=RefreshConfig(mode="blocking"),
    )
    run = RunDir(run_pipeline(twice).root)
    files = [run.checkpoint(16) / "model.safetensors", *run.generation(1).glob("part-*")]
    before = [path.read_bytes() for path in files]
    assert main(["train", "--run", str(run.root), "--resume-from", "0"]) == 0
    assert "0 to 16 in" in capsys.readouterr().out
    assert [path.read_bytes() for path in files] == before
    published = [e for e in standing(read_events(run.events, "miner")) if e["event"] == "published"]
    assert [e["generation"] for e in published] == [0, 1]
    assert len(before) > 1 and len(list(run.root.glob("abandoned/*/generations/*"))) == 1


def test_more_cpus_than_there_are_is_said_at_once(config: RunConfig) -> None:
    greedy = replace(config, name="greedy", cluster=replace(config.cluster, trainer_cpus=8.0))
    with pytest.raises(ValueError, match="lower --cluster.trainer-cpus"):
        run_pipeline(greedy)


def test_the_verbs_work_on_a_finished_run(
    report: RunReport, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(report.root)
    before = run.generation_numbers()
    assert main(["mine", "--run", str(report.root)]) == 0
    assert run.generation_numbers() == [*before, before[-1] + 1]
    assert "semi-hard pairs" in capsys.readouterr().out
    assert main(["evaluate", "--run", str(report.root), "--step", "0"]) == 0
    assert "TAR at FAR 1e-2" in capsys.readouterr().out
    assert main(["status", "--runs", str(report.root.parent), "--run", "first"]) == 0
    assert "done" in capsys.readouterr().out
    assert main(["mine", "--run", str(report.root), "--step", "7"]) == 2
    assert "no checkpoint of step 7" in capsys.readouterr().err


def test_while_another_refresh_holds_the_lock_there_is_nothing_to_do(
    report: RunReport, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(report.root)
    before = run.generation_numbers()
    with FencedLock(run.miner_lock):
        assert main(["mine", "--run", str(report.root)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run.generation_numbers() == before


def test_a_run_has_one_driver(report: RunReport, config: RunConfig) -> None:
    longest = replace(config, trainer=replace(config.trainer, steps=90))
    with WriterLock(RunDir(report.root).driver_lock), pytest.raises(LockHeld):
        run_pipeline(longest, resume=True)
