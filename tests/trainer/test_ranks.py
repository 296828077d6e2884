"""Two gloo ranks against one process: the same weights, where a face does not see its batch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

import facequarry.trainer.loop
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import Lease, RowRange, TripletSource
from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.augment import augment
from facequarry.trainer.batch.online import identity_batches, semi_hard_in_batch
from facequarry.trainer.batch.run_faces import FacesAt, RunFaces
from facequarry.trainer.checkpoints.checkpoint import load_model
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.finite import gradient_norm
from facequarry.trainer.losses import triplet_loss
from facequarry.trainer.network.embed import to_input
from facequarry.trainer.world import World
from tests.trainer.stores import (
    IDENTITIES,
    RandomSource,
    publish,
    publish_rows,
    random_triplets,
    train_small,
)

CONFIG = TrainerConfig(
    embedding_dim=8,
    steps=6,
    batch=8,
    workers=2,
    optimizer="sgd",
    learning_rate=0.05,
    warmup_steps=2,
    jitter_px=2,
    freeze_batch_norm=True,
    checkpoint_every=6,
)
CASES = {
    "random": CONFIG,
    "mined": replace(CONFIG, selection="mined"),
    "found": replace(CONFIG, selection="online_semi_hard"),
}
POISONED = "poisoned"


@dataclass(frozen=True)
class MinedSource:
    """Leases the rows of generation 0 in order, and a carried one of generation 1."""

    wants_checkpoint: bool = False

    def lease(self, step: int) -> Lease:
        first = 7 * step
        return Lease(step, 0, (RowRange(0, first, first + 7), RowRange(1, step, step + 1)))


def train_case(case: str, folder: Path, at: FacesAt, world: World) -> None:
    run = RunDir(folder / f"{case}-{world.size}")
    source: TripletSource = MinedSource() if case == "mined" else RandomSource(CONFIG.batch)
    train_small(run, RunFaces(at), CASES.get(case, CONFIG), source=source, world=world)


def poison_last_rank(rank: int) -> None:
    """Let step 2 give rank 1 a face without finite embedding."""

    def poisoned(images: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        images = augment(images, *args, **options)
        if (rank, options["seed"]) == (1, (0, 2)):
            images[0] = torch.nan
        return images

    pytest.MonkeyPatch().setattr(facequarry.trainer.loop, "augment", poisoned)


def train_rank(rank: int, folder: Path, at: FacesAt) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2
    )
    for case in CASES:
        train_case(case, folder, at, World(rank=rank, size=2))
    with pytest.raises(FloatingPointError) as error:
        poison_last_rank(rank)
        train_case(POISONED, folder, at, World(rank=rank, size=2))
    (folder / f"error-{rank}.txt").write_text(str(error.value))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    at = publish(folder, IDENTITIES)
    rows = random_triplets(at.open())
    for size in (1, 2):
        for number in (0, 1):
            run = RunDir(folder / f"mined-{size}")
            publish_rows(run, number, rows.rows(900 + number, 60))
    spawn(train_rank, args=(folder, at), nprocs=2)
    for case in CASES:
        train_case(case, folder, at, World())
    return folder


@pytest.mark.parametrize("case", ["random", "mined"])
def test_two_ranks_equal_one_process(trained: Path, case: str) -> None:
    one, two, start = (
        load_file(RunDir(trained / f"{case}-{size}").checkpoint(step) / "model.safetensors")
        for size, step in ((1, 6), (2, 6), (1, 0))
    )
    assert not torch.equal(one["head.weight"], start["head.weight"])
    for name, value in one.items():
        # The ranks' gradients are added in another order, six times over.
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-6)
        if "running" in name:
            assert torch.equal(value, start[name])


def test_every_rank_names_the_face_without_finite_embedding(trained: Path) -> None:
    first, second = ((trained / f"error-{rank}.txt").read_text() for rank in (0, 1))
    assert first == second
    assert re.search(r"step 2 .*; 1 of \d+ embeddings are not finite, faces \d+;", first)


def test_found_triplets_weigh_alike_whichever_rank_found_them(trained: Path) -> None:
    """The first step's figures and gradient are those of all triplets in one mean."""
    config, run = CASES["found"], RunDir(trained / "found-2")
    store = FaceStore.open(trained / "faces", trained / "cache")
    everyone = np.arange(store.num_faces)
    drawn = identity_batches(config, everyone, store.identity_index, seed=0)
    model, _ = load_model(run.checkpoint(0))
    found = []
    for rank in (0, 1):
        faces = drawn.faces(0, rank=rank, world_size=2)
        images = to_input(store.decode(faces), "cpu")
        images = augment(images, faces, config.augmentation, seed=(0, 0))
        embeddings = model(images)
        identities = torch.from_numpy(store.identity_index[faces])
        triplets = semi_hard_in_batch(embeddings, identities, margin=0.2)
        found.append(triplet_loss(embeddings, triplets, margin=0.2))
    counts = [one.num_triplets for one in found]
    assert counts[0] != counts[1]
    loss = sum(one.loss * one.num_triplets for one in found) / sum(counts)
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    steps = read_events(run.events, "trainer")
    first = next(event for event in steps if event["event"] == "step")
    assert first["num_triplets"] == sum(counts)
    assert first["loss_d2"] == pytest.approx(loss.item(), rel=1e-4)
    assert first["grad_norm"] == pytest.approx(gradient_norm(model).item(), rel=1e-3)
    assert first["active_share"] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("case", CASES)
def test_figures_are_those_of_all_ranks(trained: Path, case: str) -> None:
    one, two = (
        [
            event
            for event in read_events(RunDir(trained / f"{case}-{size}").events, "trainer")
            if event["event"] == "step"
        ]
        for size in (1, 2)
    )
    if case == "found":  # a rank looks among its own faces, so it finds fewer
        assert sum(e["num_triplets"] for e in two) < sum(e["num_triplets"] for e in one)
        return
    for name in ("loss_d2", "active_share", "in_band_share", "now_hard_share", "grad_norm"):
        assert np.allclose([e[name] for e in one], [e[name] for e in two], atol=1e-4), name
    assert [e["num_triplets"] for e in two] == [8] * 6
    assert [e["generation"] for e in two] == [None if case == "random" else 0] * 6
