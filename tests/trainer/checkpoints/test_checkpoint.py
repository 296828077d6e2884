from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import facequarry.trainer.checkpoints.checkpoint
from facequarry.datasets.disk.publish import AlreadyPublished, NewerSchema, sha256_file
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.checkpoints.checkpoint import (
    CheckpointMismatch,
    CorruptCheckpoint,
    abandon_unverified,
    load_model,
    load_trainer_state,
    load_weights,
    newest_verified_step,
    publish_checkpoint,
    verified_or_abandoned,
)
from facequarry.trainer.checkpoints.retention import prune_checkpoints, surplus_steps
from facequarry.trainer.checkpoints.start import usable_checkpoints
from facequarry.trainer.network.backbones import build_backbone
from facequarry.trainer.world import World


def publish(run: RunDir, step: int, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = build_backbone("compact", 8)
    publish_checkpoint(
        run,
        step,
        model,
        backbone="compact",
        embedding_dim=8,
        crop_px=32,
        trainer_state={"optimizer": {"lr": 0.5}},
    )
    return model


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    model = publish(run, 50)
    loaded, manifest = load_model(run.checkpoint(50))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert (manifest["step"], manifest["crop_px"]) == (50, 32)
    assert load_trainer_state(run.checkpoint(50)) == {"optimizer": {"lr": 0.5}}


def test_what_was_saved_on_a_gpu_loads_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = RunDir(tmp_path), []
    publish(run, 50)
    load = torch.load

    def recorded(path: Path, **options: object) -> object:
        asked.append(options)
        return load(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch, "load", recorded)
    load_trainer_state(run.checkpoint(50))
    assert asked == [{"map_location": "cpu", "weights_only": True}]


def test_a_start_reads_the_newest_weights_for_their_hash_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, hashed = RunDir(tmp_path), []
    publish(run, 0)
    publish(run, 50)

    def recorded(path: Path) -> str:
        hashed.append(f"{path.parent.name[-2:]}/{path.name}")
        return sha256_file(path)

    monkeypatch.setattr(facequarry.trainer.checkpoints.checkpoint, "sha256_file", recorded)
    assert usable_checkpoints(run, World()) == (50, True)
    assert sorted(hashed) == [
        f"{step}/{name}" for step in ("00", "50") for name in ("model.safetensors", "trainer.pt")
    ]


def test_a_step_is_published_once(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    publish(run, 50)
    with pytest.raises(AlreadyPublished):
        publish(run, 50, seed=1)
    assert list(run.checkpoints.glob(".staging*")) == []


def test_weights_of_another_size_do_not_fit(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    publish(run, 0)
    with pytest.raises(CheckpointMismatch, match=r"\(8.*expected \(16"):
        load_weights(build_backbone("compact", 16), run.checkpoint(0))


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.pt", "manifest.json"])
def test_the_newest_checkpoint_that_verifies_is_taken(tmp_path: Path, name: str) -> None:
    run = RunDir(tmp_path)
    publish(run, 0)
    publish(run, 50)
    (run.checkpoint(50) / name).write_bytes(b"torn")
    assert newest_verified_step(run) == 0
    assert abandon_unverified(run) == 0
    assert run.checkpoint_steps() == [0]
    assert [path.name[:14] for path in (tmp_path / "abandoned").iterdir()] == ["step=000000050"]
    publish(run, 50)


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    publish(run, 0)
    (run.checkpoint(0) / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CorruptCheckpoint, match="bytes changed"):
        load_model(run.checkpoint(0))


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    publish(run, 0)
    path = run.checkpoint(0) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(NewerSchema, match="newer facequarry"):
        load_model(run.checkpoint(0))


def test_a_manifest_that_lacks_something_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    publish(run, 0)
    path = run.checkpoint(0) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["backbone"], manifest["weight_sha256"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest.json is no .* lacks backbone, weight_sha256;"):
        load_model(run.checkpoint(0))
    assert newest_verified_step(run) is None


def test_no_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_model(tmp_path)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown backbone"):
        build_backbone("resnet", 8)


def test_a_checkpoint_that_is_asked_for_is_verified_or_set_aside(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert not verified_or_abandoned(run, 0)
    publish(run, 0)
    assert verified_or_abandoned(run, 0)
    (run.checkpoint(0) / "trainer.pt").write_bytes(b"torn")
    assert not verified_or_abandoned(run, 0)
    assert run.checkpoint_steps() == [] and len(list((tmp_path / "abandoned").iterdir())) == 1


def test_retention_keeps_the_newest_step_zero_and_what_mining_names() -> None:
    steps = [0, 10, 20, 30, 40, 50, 60]
    assert surplus_steps(steps, {20, 30}, keep=2) == [10, 40]
    assert surplus_steps(steps, set(), keep=3) == [10, 20, 30]
    assert surplus_steps([0], {0}, keep=1) == []


def test_the_checkpoint_of_a_refresh_in_hand_is_kept(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in (0, 10, 20, 30):
        publish(run, step)
    log = EventLog(run.events, "miner", attempt=1)
    log.write("begin", checkpoint_step=10)
    assert prune_checkpoints(run, keep=1) == [20]
    log.write("begin", checkpoint_step=30)
    assert prune_checkpoints(run, keep=1) == [10]
    assert run.checkpoint_steps() == [0, 30]
