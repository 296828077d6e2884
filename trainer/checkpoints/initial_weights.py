"""Weights that a new run starts from: a checkpoint of another run, or a published weight file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.disk.publish import MANIFEST
from facequarry.trainer.checkpoints.checkpoint import (
    WEIGHTS_FILE,
    CheckpointMismatch,
    fit_weights,
    read_checkpoint_manifest,
    verify_checkpoint,
)
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.network.backbones import build_backbone

# Counts batches, changes no embedding, and older weight files lack it.
_COUNTER = "num_batches_tracked"


def check_initial_weights(config: TrainerConfig) -> None:
    """Check that `init_from`, if given, fits the backbone: cheap enough before a cluster starts.

    Raises:
        CheckpointMismatch, BadInput, NotFound: as `load_initial_weights`.
    """
    if config.init_from is not None:
        model = build_backbone(config.backbone, config.embedding_dim)
        load_initial_weights(model, config.init_from)


def check_initial_crops(config: TrainerConfig, crop_px: int) -> None:
    """Check that faces have the size of those that `init_from`, a checkpoint, was trained on.

    A weight file does not say its size, and a folder that is gone has been loaded long since.

    Raises:
        CheckpointMismatch: they have another size.
    """
    if config.init_from is None or not (config.init_from / MANIFEST).is_file():
        return
    trained_px = read_checkpoint_manifest(config.init_from)["crop_px"]
    if trained_px != crop_px:
        raise CheckpointMismatch(
            f"trainer.init_from {config.init_from} was trained on crops of {trained_px} px, the "
            f"faces have {crop_px} px; ingest with --ingest.crop-px {trained_px} into another "
            "folder, or start from other weights"
        )


def load_initial_weights(model: nn.Module, path: Path) -> None:
    """Load weights into a backbone.

    Args:
        model: a fresh backbone.
        path: a checkpoint's folder, a `.safetensors` file, or a `.pt` or `.pth` file of tensors by
            name (loaded without running any code of the file).

    Raises:
        NotFound: there is nothing at this path.
        CorruptCheckpoint: the checkpoint's bytes are not what its manifest says.
        BadInput: the file holds no tensors by name, or one that is not finite.
        CheckpointMismatch: a parameter is missing, unknown or of another shape; the first is named.
    """
    weights = _read(path)
    for name, own in model.state_dict().items():
        if name.endswith(_COUNTER):
            weights.setdefault(name, own)
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise BadInput(f"{path} holds weights that are not finite: {name}; use others")
    fit_weights(model, weights, origin=path)


def _read(path: Path) -> dict[str, torch.Tensor]:
    if path.is_dir():
        verify_checkpoint(path)
        return load_file(path / WEIGHTS_FILE)
    if not path.is_file():
        raise NotFound(
            f"no weights at trainer.init_from {path}; expected a checkpoint's folder or a "
            ".safetensors, .pt or .pth file"
        )
    if not path.stat().st_size:
        raise BadInput(f"{path} holds no weights that can be loaded: it is empty")
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise BadInput(f"{path} is no .safetensors, .pt or .pth file; convert it to one of these")
    try:
        return load_file(path) if path.suffix == ".safetensors" else _load_tensors(path)
    except Exception as error:  # torch's reader fails on foreign bytes in any way they lead it
        raise BadInput(f"{path} holds no weights that can be loaded: {_why(error)}") from error


def _why(error: Exception) -> str:
    """Return the reason in one line; torch's own would advise to run the file's code."""
    if isinstance(error, pickle.UnpicklingError):
        if "GLOBAL" in str(error):  # how pickle names what it would call
            return "it holds code, not only tensors; convert it to .safetensors"
        return "it is no file of tensors"
    return str(error).partition("\n")[0] or type(error).__name__


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise BadInput("it is no state_dict() of a model, tensors by name")
    return dict(loaded)
