"""A small run directory, made by the writers of the system itself; the mining in it is real."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facequarry.datasets.disk.publish import write_json
from facequarry.datasets.faces.jpeg import encode_jpeg
from facequarry.datasets.faces.shards import write_shard
from facequarry.datasets.faces.snapshots import publish_snapshot
from facequarry.datasets.ingest.shard_tasks import ShardTask
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import METRICS, RunDir
from facequarry.datasets.sources.photos import LISTING_SCHEMA
from facequarry.miner import MinerConfig, mine
from facequarry.miner.selection.observe import observe
from facequarry.miner.selection.stats import MiningStats
from tests.datasets.generations import publish_generation

IDENTITIES, PHOTOS, SHARDS = 10, 8, 2
FACES = IDENTITIES * PHOTOS
STEPS, EVERY = 60, 20
FIRST_STEPS = (0, 24, 44)
BEGAN = 1_700_000_000.0
STEP_S = 0.5


class Clock:
    """Seconds since the epoch, as the maker of a run says."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        return self.now

    def at_step(self, step: int) -> None:
        self.now = BEGAN + 10 + STEP_S * step


def begin_run(runs: Path, name: str) -> RunDir:
    """Make a run that has only its configuration."""
    run = RunDir(runs / name)
    tree = {
        "faces": str(runs.parent / "faces"),
        "trainer": {"steps": STEPS, "checkpoint_every": EVERY, "selection": "mined"},
        "miner": {"margin": 0.2},
    }
    write_json(run.config, tree)
    return run


def make_run(runs: Path, name: str = "made") -> RunDir:
    """Make a run that is over: three generations, one failed refresh, two evaluations."""
    run = begin_run(runs, name)
    make_faces(runs.parent / "faces")
    clock = Clock()
    logs = {
        stage: EventLog(run.events, stage, attempt=1, clock=clock)
        for stage in ("driver", "trainer", "miner", "queue")
    }
    logs["driver"].write("start", command="facequarry run")
    for number, first_step in enumerate(FIRST_STEPS):
        clock.at_step(number * EVERY)
        if number == 2:
            logs["miner"].write("begin", checkpoint_step=40, generation=2)
            logs["miner"].write("failed", checkpoint_step=40, generation=2, reason="disk <full>")
        rows = refresh(run, number, logs["miner"], clock)
        clock.at_step(first_step)
        logs["queue"].write(
            "switch",
            step=first_step,
            generation=number,
            first_step=first_step,
            rows=rows,
            mined_at_step=number * EVERY,
        )
    logs["trainer"].write("start", step=0, resumed_step=0, world_size=1)
    for step in range(STEPS):
        clock.at_step(step + 1)
        log_step(logs["trainer"], step)
    for step, auc in ((0, 0.6), (STEPS, 0.9)):
        write_json(run.evaluation(step) / METRICS, metrics(step, auc))
    logs["driver"].write("end", seconds=40.0, reason="done", staleness_bound_steps=30)
    return run


def log_step(log: EventLog, step: int, loss_d2: float | None = None) -> None:
    """Log one training step."""
    generation = sum(step >= first for first in FIRST_STEPS) - 1
    log.write(
        "step",
        step=step,
        generation=generation,
        loss_d2=0.2 - 0.002 * step if loss_d2 is None else loss_d2,
        in_band_share=0.5,
        now_hard_share=0.2,
        now_easy_share=0.3,
        staleness_steps=step - generation * EVERY,
        wait_s=0.1,
        step_s=STEP_S,
        faces_per_s=200.0,
    )


def refresh(run: RunDir, number: int, log: EventLog, clock: Clock) -> int:
    """Mine random embeddings and publish what was found; return its rows."""
    log.write("begin", checkpoint_step=number * EVERY, generation=number)
    random = np.random.default_rng(number)
    identities = np.repeat(np.arange(IDENTITIES), PHOTOS)
    rows = random.normal(size=(IDENTITIES, 8))[identities] + random.normal(size=(FACES, 8))
    embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    config = MinerConfig(positives="random", positives_per_anchor=2, engine="exact")
    mined = mine(embeddings, identities, config=config, seed=number)
    stats = replace(mined.stats, observed=observe(mined.table, identities))
    publish_generation(
        run.generation(number),
        mined.table,
        mined.suspects,
        number=number,
        mined_at_step=number * EVERY,
        facts={"snapshot": 1, "config": asdict(config), "stats": stats.to_dict()},
        timing={"embed_s": 1.0, "mine_s": 0.5},
    )
    clock.now += 1.6
    log.write(
        "published",
        checkpoint_step=number * EVERY,
        generation=number,
        rows=mined.table.num_rows,
        embed_s=1.0,
        mine_s=0.5,
        publish_s=0.1,
        refresh_s=1.6,
        **_counts(mined.stats),
    )
    return int(mined.table.num_rows)


def _counts(stats: MiningStats) -> dict[str, int]:
    names = ("pairs", "semi_hard", "band_empty", "beyond_search", "suspect")
    return {name: stats.to_dict()[name] for name in names}


def make_faces(root: Path) -> None:
    """Publish a snapshot of crops of noise, in two shards; one name needs escaping."""
    if root.exists():
        return
    summaries = []
    for shard in range(SHARDS):
        faces = [_face(index) for index in range(FACES) if index * SHARDS // FACES == shard]
        rejects: list[dict[str, Any]] = [
            {"source": f"n{shard}/bad.jpg", "identity": f"n{shard}", "reason": "no_face"}
            | {"detail": "", "source_bytes": 1}
        ]
        task = ShardTask(shard, LISTING_SCHEMA.empty_table(), f"{shard}" * 64)
        summaries.append(write_shard(root, task.digest, faces, rejects))
    publish_snapshot(root, {"crop_px": 32}, summaries)


def _face(index: int) -> dict[str, Any]:
    identity = identity_of(index)
    small = np.random.default_rng(index).integers(0, 256, (4, 4, 3), np.uint8)
    crop = np.asarray(cv2.resize(small, (32, 32), interpolation=cv2.INTER_CUBIC), np.uint8)
    return {
        "identity": identity,
        "source": f"{identity}/{index:04d}.jpg",
        "image": encode_jpeg(crop),
        "width": 32,
        "height": 32,
        "box": [0.0, 0.0, 32.0, 32.0],
        "landmarks": None,
        "score": 1.0,
        "num_faces_in_source": 1,
        "source_bytes": 1,
        "source_sha256": "0" * 64,
    }


def identity_of(face_index: int) -> str:
    """Return the identity of a face."""
    number = face_index // PHOTOS
    return "n0 <b>&" if number == 0 else f"n{number}"


def metrics(step: int, auc: float) -> dict[str, object]:
    """Return what an evaluation publishes."""
    from facequarry.trainer.evaluation.result import Evaluation, metrics_of
    from facequarry.trainer.evaluation.verification import Retrieval, verify

    random = np.random.default_rng(step)
    is_same = np.arange(400) < 100
    d2 = (random.uniform(0, 2, 400) + (2 * auc - 1) * ~is_same).astype(np.float32)
    result = Evaluation(
        step=step,
        part="held_out",
        num_identities=4,
        num_faces=32,
        verification=verify(d2, is_same),
        retrieval=Retrieval(num_queries=32, precision_at_1=auc, map_at_r=auc / 2),
        d2=d2,
        is_same=is_same,
    )
    return metrics_of(result)
