"""What the training loop costs beyond its arithmetic, and what a refresh beside it costs.

The same steps on the same faces, three ways that take turns in one process:

    bare      forward, backward and optimizer step on tensors that lie in memory (the limit)
    alone     `trainer.loop.train`: lease, fetch, decode, embed, loss, step, log
    beside    the same, while another process refreshes on another core without a pause

    python -m benchmarks.training.loop
"""

from __future__ import annotations

import contextlib
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common import publish_faces, show, write_photos
from facequarry.datasets.faces.split import Split
from facequarry.datasets.generations.triplets import Lease
from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.config import MinerConfig
from facequarry.miner.queue.serve import QueueSettings, TripletQueue
from facequarry.miner.refresh.generation import make_generation
from facequarry.miner.refresh.recipe import RefreshPlan
from facequarry.trainer.batch.batches import RandomTriplets, RowReader, assemble
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces
from facequarry.trainer.checkpoints.checkpoint import load_weights
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.loop import train
from facequarry.trainer.losses import triplet_loss
from facequarry.trainer.network.backbones import build_backbone
from facequarry.trainer.network.embed import to_input
from facequarry.trainer.optimizer import build_optimizer
from facequarry.trainer.step_log import StepLog
from facequarry.trainer.world import World

NUM_PHOTOS, CROP_PX = 2_048, 64
WARM_STEPS, STEPS, REPEATS = 10, 60, 3
MARGIN, SEED = 0.2, 0
CONFIG = TrainerConfig(
    embedding_dim=128, steps=STEPS, batch=64, checkpoint_every=STEPS, learning_rate=3e-4
)
PLAN = RefreshPlan(
    config=MinerConfig(margin=MARGIN, positives="random", positives_per_anchor=4, threads=1),
    split=Split(train=0.9, tuning=0.0),
    rows_needed=2 * STEPS * CONFIG.batch,
    seed=SEED,
    augmentation=CONFIG.augmentation,
)
_REFRESH_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One training of `STEPS` steps, the first `WARM_STEPS` of them left out."""

    step_s: float
    """Seconds a step, logging included."""
    wait_share: float
    """Share of the time spent waiting for batches."""


class QueueHere:
    """The queue without its actor: the journal's arithmetic and its files."""

    wants_checkpoint = False

    def __init__(self, run: RunDir) -> None:
        settings = QueueSettings(
            batch=CONFIG.batch,
            carry_over=0.0,
            seed=SEED,
            prefetch=CONFIG.prefetch,
            random_until_mined=True,
            block_every=None,
        )
        self._queue = TripletQueue(run, settings, attempt=1)

    def lease(self, step: int) -> Lease:
        """Return the rows of `step`."""
        lease = self._queue.ask(step)
        if not isinstance(lease, Lease):
            raise RuntimeError(f"step {step} has no rows to train on")
        return lease


def prepare(folder: Path) -> tuple[RunDir, FacesAt]:
    """Make faces, and a run with checkpoint 0 and the generation mined from it."""
    source = write_photos(folder / "photos", NUM_PHOTOS)
    root = publish_faces(source, folder, crop_px=CROP_PX)
    faces = FacesAt(root=root, cache=folder / "cache", snapshot=1)
    scratch, run = RunDir(folder / "scratch"), RunDir(folder / "run")
    train_here(scratch, faces, replace(CONFIG, steps=1))
    shutil.copytree(scratch.checkpoint(0), run.checkpoint(0))
    log = EventLog(run.events, "miner", attempt=1)
    make_generation(run, RunFaces(faces), PLAN, step=0, number=0, log=log)
    return run, faces


def train_here(run: RunDir, faces: FacesAt, config: TrainerConfig) -> None:
    """Train in this process."""
    opened = RunFaces(faces)
    train(
        config,
        run=run,
        faces=opened,
        source=QueueHere(run),
        random=random_triplets(opened),
        world=World(),
        margin=MARGIN,
        seed=SEED,
        log=StepLog(run, attempt=1, world=World()),
    )


def random_triplets(faces: RunFaces) -> RandomTriplets:
    """Draw from the training identities."""
    face_indices = PLAN.split.faces(faces.store, "train")
    return RandomTriplets(face_indices, faces.store.identity_index[face_indices], seed=SEED)


def loop_turn(base: RunDir, faces: FacesAt, folder: Path) -> Turn:
    """Train `STEPS` steps from the base run's checkpoint 0 and read what its events say."""
    run = RunDir(folder)
    shutil.rmtree(run.root, ignore_errors=True)
    shutil.copytree(base.root, run.root)
    train_here(run, faces, CONFIG)
    steps = [event for event in read_events(run.events, "trainer") if event["event"] == "step"]
    warm, timed = steps[WARM_STEPS - 1], steps[WARM_STEPS:]
    spent = timed[-1]["time"] - warm["time"]
    return Turn(spent / len(timed), sum(event["wait_s"] for event in timed) / spent)


def bare_steps(base: RunDir, faces: FacesAt, folder: Path) -> Callable[[], float]:
    """Return what trains the same steps on tensors in memory and returns seconds a step."""
    # In a copy: a step that is granted in the base run would cost the timed loop no journal.
    run = RunDir(folder)
    shutil.copytree(base.root, run.root)
    opened = RunFaces(faces)
    reader, queue = RowReader(run, random_triplets(opened), opened), QueueHere(run)
    batches = [assemble(queue.lease(step), reader, rank=0, world_size=1) for step in range(STEPS)]
    images = [to_input(batch.images, "cpu") for batch in batches]
    triplets = [torch.from_numpy(batch.triplets) for batch in batches]

    def train_bare() -> float:
        torch.set_num_threads(CONFIG.threads)
        model = build_backbone(CONFIG.backbone, CONFIG.embedding_dim).train()
        load_weights(model, run.checkpoint(0))
        optimizer = build_optimizer(CONFIG, model)
        began = 0.0
        for step, (faces_in, rows) in enumerate(zip(images, triplets, strict=True)):
            if step == WARM_STEPS:
                began = time.perf_counter()
            loss = triplet_loss(model(faces_in), rows, margin=MARGIN).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return (time.perf_counter() - began) / (STEPS - WARM_STEPS)

    return train_bare


@contextlib.contextmanager
def refreshing(base: RunDir, faces: FacesAt, folder: Path) -> Iterator[RunDir]:
    """Refresh in another process without a pause for the block; yields the run it publishes to."""
    run = RunDir(folder)
    shutil.copytree(base.root, run.root, dirs_exist_ok=True)
    context = multiprocessing.get_context("spawn")
    stopped = context.Event()
    miner = context.Process(target=refresh_until, args=(run, faces, stopped), daemon=True)
    miner.start()
    try:
        deadline = time.monotonic() + _REFRESH_TIMEOUT_S
        while len(_published(run)) < 2:  # the first one is the base run's own
            if not miner.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"no refresh was published within {_REFRESH_TIMEOUT_S:.0f} s")
            time.sleep(0.1)
        yield run
    finally:
        stopped.set()
        miner.join(_REFRESH_TIMEOUT_S)


def refresh_until(run: RunDir, faces: FacesAt, stopped: Event) -> None:
    """Mine one generation after the other on one thread."""
    torch.set_num_threads(1)
    opened, log = RunFaces(faces), EventLog(run.events, "miner", attempt=2)
    number = max(run.generation_numbers())
    while not stopped.is_set():
        number += 1
        make_generation(run, opened, PLAN, step=0, number=number, log=log)


def _published(run: RunDir) -> list[dict[str, Any]]:
    return [event for event in read_events(run.events, "miner") if event["event"] == "published"]


def main() -> None:
    """Measure and print."""
    bare: list[float] = []
    alone: list[Turn] = []
    beside: list[Turn] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, faces = prepare(folder)
        train_bare = bare_steps(base, faces, folder / "bare")
        refreshes: list[dict[str, Any]] = []
        for turn in range(REPEATS):
            bare.append(train_bare())
            alone.append(loop_turn(base, faces, folder / "alone"))
            with refreshing(base, faces, folder / f"refreshing-{turn}") as mined:
                beside.append(loop_turn(base, faces, folder / "beside"))
            refreshes += _published(mined)[1:]  # the first one is the base run's own
    stages = _stages(refreshes)
    limit = median(bare)
    ways = {"alone": alone, "beside a refresh": beside}
    rows = [("bare step", f"{1000 * limit:.1f}", "1.00", "", "")]
    for way, turns in ways.items():
        step_s = median(turn.step_s for turn in turns)
        per_bare = median(turn.step_s / one for turn, one in zip(turns, bare, strict=True))
        speed = median(one.step_s / turn.step_s for one, turn in zip(alone, turns, strict=True))
        wait = median(turn.wait_share for turn in turns)
        rows.append(
            (way, f"{1000 * step_s:.1f}", f"{per_bare:.2f}", f"{speed:.2f}", f"{100 * wait:.1f} %")
        )
    show(
        f"{STEPS - WARM_STEPS} steps of {CONFIG.batch} triplets, {CROP_PX} px, one thread, "
        f"medians of {REPEATS} turns",
        ("training", "ms a step", "÷ bare step", "speed ÷ alone", "waiting for data"),
        rows,
        (
            "must: loop at most 1.15 x bare, beside a refresh at least 0.9 of alone, waiting 3 %",
            "one refresh by stage: " + ", ".join(f"{name} {s:.2f} s" for name, s in stages.items()),
        ),
    )


def _stages(published: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return seconds by stage of a refresh, medians."""
    names = [name for name in published[0] if name.endswith("_s")]
    return {name[:-2]: median(event[name] for event in published) for name in names}


if __name__ == "__main__":
    main()
