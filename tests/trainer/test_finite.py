from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import facequarry.trainer.loop
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import Lease, RowRange
from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.augment import augment
from facequarry.trainer.config import Augmentation, TrainerConfig
from facequarry.trainer.finite import check_finite
from facequarry.trainer.losses import TripletLoss, triplet_loss
from facequarry.trainer.network.backbones import build_backbone
from tests.trainer.stores import publish_rows, small_store, still, train_small

CONFIG = TrainerConfig(
    embedding_dim=8, steps=12, batch=4, checkpoint_every=4, freeze_batch_norm=True
)
ROWS = np.array([[0, 1, 5], [1, 0, 5], [5, 6, 0], [6, 5, 1]])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FaceStore:
    return small_store(tmp_path_factory.mktemp("store"))


class Mined:
    """Leases the same rows of generation 3 for every step."""

    wants_checkpoint = False

    def lease(self, step: int) -> Lease:
        return Lease(step, 3, (RowRange(3, 0, 4),))


class Watched:
    """A training on four rows, whose model is in hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: FaceStore, root: Path) -> None:
        self.run, self.store = RunDir(root), store
        publish_rows(self.run, 3, ROWS)
        self.model = build_backbone("compact", 8)
        monkeypatch.setattr(facequarry.trainer.loop, "build_backbone", lambda *_: self.model)

    def train(self, config: TrainerConfig = CONFIG) -> None:
        train_small(self.run, still(self.store), config, source=Mined())

    @property
    def last_step(self) -> int:
        steps = [e for e in read_events(self.run.events, "trainer") if e["event"] == "step"]
        return int(steps[-1]["step"])

    def assert_good_weights(self) -> None:
        check_finite(self.model, step=0)
        assert self.run.checkpoint_steps() == [0, 4]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, store: FaceStore, tmp_path: Path) -> Watched:
    return Watched(monkeypatch, store, tmp_path)


@pytest.mark.parametrize("selection", ["mined", "online_semi_hard"])
def test_a_face_without_finite_embedding_stops_the_run_and_is_named(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, selection: str
) -> None:
    def poison(
        images: torch.Tensor,
        faces: np.ndarray,
        augmentation: Augmentation | None,
        *,
        seed: tuple[int, int],
    ) -> torch.Tensor:
        images = augment(images, faces, augmentation, seed=seed)
        if seed == (0, 6):
            images[torch.from_numpy(faces == faces[2])] = torch.nan
        return images

    monkeypatch.setattr(facequarry.trainer.loop, "augment", poison)
    rows, face = (
        ("generation 3", "5") if selection == "mined" else ("triplets found in the batch", r"\d+")
    )
    with pytest.raises(
        FloatingPointError,
        match=rf"step 6 \({rows}\) .* 1 of \d+ embeddings are not finite, faces {face};",
    ):
        watched.train(replace(CONFIG, selection=selection))  # type: ignore[arg-type]
    assert watched.last_step == 5
    watched.assert_good_weights()


def test_a_gradient_that_is_no_number_is_not_stepped_on(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(99))

    def poison(embeddings: torch.Tensor, rows: torch.Tensor, *, margin: float) -> TripletLoss:
        result = triplet_loss(embeddings, rows, margin=margin)
        if next(steps) == 6:
            embeddings.register_hook(lambda gradient: gradient * torch.inf)
        return result

    monkeypatch.setattr(facequarry.trainer.loop, "triplet_loss", poison)
    with pytest.raises(
        FloatingPointError, match=r"step 6 .* gradient norm nan; .* faces 0, 1, 5, 6 on"
    ):
        watched.train()
    assert watched.last_step == 5
    watched.assert_good_weights()


def test_weights_that_are_no_numbers_are_not_published() -> None:
    model = build_backbone("compact", 8)
    check_finite(model, step=9)
    dict(model.named_parameters())["head.bias"].data[3] = float("nan")
    with pytest.raises(FloatingPointError, match="head.bias is not finite at step 9"):
        check_finite(model, step=9)
