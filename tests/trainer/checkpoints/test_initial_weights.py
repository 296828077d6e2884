from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.checkpoints.checkpoint import (
    CheckpointMismatch,
    CorruptCheckpoint,
    load_model,
)
from facequarry.trainer.checkpoints.initial_weights import (
    check_initial_crops,
    check_initial_weights,
    load_initial_weights,
)
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.network.backbones import build_backbone
from tests.datasets.photos import WHOLE, publish_plainly
from tests.trainer.stores import small_store, still, train_small

CONFIG = TrainerConfig(embedding_dim=8, steps=2, batch=4, checkpoint_every=2)


def weights(seed: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return build_backbone("compact", 8).state_dict()


def file_of(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
def test_weight_files_load_with_or_without_batch_counters(tmp_path: Path, name: str) -> None:
    wanted = weights()
    bare = {key: value for key, value in wanted.items() if not key.endswith("batches_tracked")}
    for tensors in (wanted, bare):
        model = build_backbone("compact", 8)
        load_initial_weights(model, file_of(tmp_path / name, tensors))
        for key, value in model.state_dict().items():
            assert torch.equal(value, wanted[key]), key


def test_a_new_run_starts_from_the_checkpoint_of_another(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    first, second = RunDir(tmp_path / "first"), RunDir(tmp_path / "second")
    train_small(first, still(store), CONFIG)
    train_small(second, still(store), replace(CONFIG, init_from=first.checkpoint(2)))
    began = load_model(second.checkpoint(0))[0].state_dict()
    for key, value in load_model(first.checkpoint(2))[0].state_dict().items():
        assert torch.equal(began[key], value), key


@pytest.mark.parametrize("change", ["absent", "shape", "unknown"])
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, change: str) -> None:
    tensors = weights()
    match change:
        case "absent":
            del tensors["head.weight"]
        case "shape":
            tensors["head.weight"] = torch.zeros(9, 2560)
        case _:
            tensors["head.weight2"] = torch.zeros(1)
    config = replace(CONFIG, init_from=file_of(tmp_path / "w.pt", tensors))
    with pytest.raises(CheckpointMismatch, match=r"w.pt does not fit .* head.weight"):
        check_initial_weights(config)


def test_what_cannot_be_loaded_is_refused_before_anything_is_published(tmp_path: Path) -> None:
    store, run = small_store(tmp_path), RunDir(tmp_path / "run")
    for name, error, words in (
        ("absent.pt", FileNotFoundError, "no weights at trainer.init_from"),
        ("torn.pt", ValueError, "holds no weights that can be loaded"),
        ("torn.safetensors", ValueError, "holds no weights that can be loaded"),
        ("w.onnx", ValueError, "is no .safetensors"),
        ("list.pt", ValueError, "it is no state_dict"),
    ):
        path = tmp_path / name
        if name == "list.pt":
            torch.save([torch.zeros(2)], path)
        elif not name.startswith("absent"):
            path.write_bytes(b"torn")
        with pytest.raises(error, match=words):
            train_small(run, still(store), replace(CONFIG, init_from=path))
    assert run.checkpoint_steps() == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "can be loaded: it is empty$"),
        (Path("x"), "it holds code, not only tensors; convert it to .safetensors$"),
    ],
)
def test_a_file_without_weights_says_why_in_one_line(
    tmp_path: Path, content: object, sentence: str
) -> None:
    path = tmp_path / "w.pt"
    path.touch()
    if content is not None:
        torch.save({"code": content}, path)
    with pytest.raises(ValueError, match=sentence) as caught:
        check_initial_weights(replace(CONFIG, init_from=path))
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    tensors = weights()
    tensors["head.bias"][2] = torch.nan
    config = replace(CONFIG, init_from=file_of(tmp_path / "w.pt", tensors))
    with pytest.raises(ValueError, match=r"w.pt holds weights that are not finite: head.bias"):
        check_initial_weights(config)


def test_a_checkpoint_of_other_crops_is_refused(tmp_path: Path) -> None:
    store, first = small_store(tmp_path), RunDir(tmp_path / "first")
    train_small(first, still(store), CONFIG)
    config = replace(CONFIG, init_from=first.checkpoint(2))
    check_initial_crops(config, crop_px=32)
    check_initial_crops(CONFIG, crop_px=48)
    publish_plainly(tmp_path / "photos", tmp_path / "larger", replace(WHOLE, crop_px=48))
    larger = FaceStore.open(tmp_path / "larger", tmp_path / "larger_cache")
    with pytest.raises(CheckpointMismatch, match="crops of 32 px, the faces have 48 px"):
        train_small(RunDir(tmp_path / "second"), still(larger), config)


def test_a_checkpoint_whose_bytes_changed_is_refused(tmp_path: Path) -> None:
    store, run = small_store(tmp_path), RunDir(tmp_path / "run")
    train_small(run, still(store), CONFIG)
    (run.checkpoint(2) / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CorruptCheckpoint, match="bytes changed"):
        check_initial_weights(replace(CONFIG, init_from=run.checkpoint(2)))
    check_initial_weights(CONFIG)


def test_the_path_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert replace(CONFIG, init_from=Path("w.pt")).absolute().init_from == tmp_path / "w.pt"
    assert CONFIG.absolute() == CONFIG
