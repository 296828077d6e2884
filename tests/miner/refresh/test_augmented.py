"""Faces that are changed in training are mined as they will be trained on."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from facequarry.datasets.generations.triplets import Lease, RowRange, read_table
from facequarry.datasets.runs.events import read_events
from facequarry.miner.config import MinerConfig
from facequarry.miner.refresh.recipe import RefreshPlan
from facequarry.miner.refresh.replay import replay_generation
from facequarry.trainer.batch.run_faces import RunFaces
from facequarry.trainer.config import Augmentation, TrainerConfig
from tests.miner.small_run import PLAN, SmallRun
from tests.trainer.stores import train_small

CHANGED = Augmentation(flip=True, jitter_px=3)
SEMI_HARD = MinerConfig(margin=0.5, negatives="random", threads=1)
CONFIG = TrainerConfig(
    embedding_dim=8, steps=5, batch=8, checkpoint_every=5, jitter_px=3, freeze_batch_norm=True
)


class OneGeneration:
    """Leases the first rows of generation 0 for every step."""

    wants_checkpoint = False

    def lease(self, step: int) -> Lease:
        return Lease(step, 0, (RowRange(0, 0, CONFIG.batch),))


def in_band_at_first_step(small: SmallRun, plan: RefreshPlan) -> float:
    """Mine checkpoint 4, train one step from it, and return the share that was in the band."""
    small.mine(0, plan=plan)
    train_small(small.run, RunFaces(small.at), CONFIG, source=OneGeneration(), attempt=2)
    steps = [e for e in read_events(small.run.events, "trainer") if e["event"] == "step"]
    assert steps[-1]["staleness_steps"] == 0
    return float(steps[-1]["in_band_share"])


@pytest.mark.parametrize("augmentation", [CHANGED, None])
def test_rows_are_in_their_band_for_the_pictures_that_are_trained_on(
    small: SmallRun, augmentation: Augmentation | None
) -> None:
    plan = replace(PLAN, config=SEMI_HARD, augmentation=augmentation)
    share = in_band_at_first_step(small, plan)
    assert (share == 1.0) == (augmentation is not None)


def test_a_replay_changes_the_faces_in_the_same_way(small: SmallRun) -> None:
    manifest = small.mine(0, plan=replace(PLAN, augmentation=CHANGED))
    assert manifest["augmentation"] == {"flip": True, "jitter_px": 3}
    assert replay_generation(small.run, small.at, 0, threads=1).difference is None


def test_the_next_generation_changes_them_in_another_way(small: SmallRun) -> None:
    plan = replace(
        PLAN,
        config=MinerConfig(negatives="hardest", threads=1),
        rows_needed=None,
        augmentation=CHANGED,
    )
    for number in (0, 1):
        small.mine(number, plan=plan)
    first, second = (d2_by_pair(read_table(small.run.generation(n))) for n in (0, 1))
    assert first.keys() == second.keys()
    assert all(first[pair] != second[pair] for pair in first)


def d2_by_pair(table: pa.Table) -> dict[frozenset[int], float]:
    names = ("anchor", "positive", "d2_ap")
    rows = zip(*(table[name].to_pylist() for name in names), strict=True)
    return {frozenset((anchor, positive)): d2_ap for anchor, positive, d2_ap in rows}
