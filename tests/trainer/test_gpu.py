"""The loop on a CUDA device: bf16 forward pass, channels_last, checkpoints that load on a CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.checkpoints.checkpoint import load_model
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.network.embed import embed
from facequarry.trainer.world import World
from tests.trainer.stores import small_store, still, train_small

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


def test_the_loss_falls_and_the_checkpoint_embeds_the_same_on_a_cpu(tmp_path: Path) -> None:
    store, run, world = small_store(tmp_path), RunDir(tmp_path / "run"), World(device="cuda:0")
    config = TrainerConfig(embedding_dim=8, steps=60, batch=16, checkpoint_every=60)
    train_small(run, still(store), config, world=world)
    losses = [e["loss_d2"] for e in read_events(run.events, "trainer") if e["event"] == "step"]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    everyone = np.arange(store.num_faces)
    on_cpu = embed(load_model(run.checkpoint(60))[0], store, everyone)
    on_gpu = embed(load_model(run.checkpoint(60))[0].to("cuda:0"), store, everyone, device="cuda:0")
    assert np.abs(on_cpu - on_gpu).max() < 1e-2


def test_triplets_are_found_in_the_batch_and_the_options_keep_the_layout(tmp_path: Path) -> None:
    store, run, world = small_store(tmp_path), RunDir(tmp_path / "run"), World(device="cuda:0")
    config = TrainerConfig(
        selection="online_semi_hard",
        embedding_dim=8,
        steps=8,
        batch=8,
        checkpoint_every=8,
        optimizer="sgd",
        schedule="cosine",
        jitter_px=2,
    )
    train_small(run, still(store), config, world=world)
    steps = [e for e in read_events(run.events, "trainer") if e["event"] == "step"]
    assert any(event["num_triplets"] for event in steps)
    assert run.checkpoint_steps() == [0, 8]
