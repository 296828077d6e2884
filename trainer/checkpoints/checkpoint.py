"""Save, publish, find and load checkpoints: a checkpoint's version is its step.

`model.safetensors` holds the backbone alone, which is all that mining and evaluation read;
`trainer.pt` holds what a resumed training needs beside it. Neither is a pickle of code:
`torch.load` runs with `weights_only=True`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from facequarry.datasets.disk.errors import BadInput, Damaged, Failure, NotFound
from facequarry.datasets.disk.publish import (
    MANIFEST,
    SCHEMA_VERSION,
    dump_json,
    read_manifest,
    sha256_file,
    staged_folder,
)
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.network.backbones import build_backbone

WEIGHTS_FILE = "model.safetensors"
TRAINER_FILE = "trainer.pt"
_MANIFEST: Mapping[str, type] = {
    "step": int,
    "backbone": str,
    "embedding_dim": int,
    "crop_px": int,
    "weight_sha256": str,
    "trainer_sha256": str,
}

logger = logging.getLogger(__name__)


class CorruptCheckpoint(Damaged):
    """A checkpoint's bytes are not what its manifest says."""


class CheckpointMismatch(BadInput):
    """A checkpoint's weights do not fit the backbone it is to be loaded into."""


class NotWritten(Failure):
    """The disk did not take a checkpoint."""


def publish_checkpoint(
    run: RunDir,
    step: int,
    model: nn.Module,
    *,
    backbone: str,
    embedding_dim: int,
    crop_px: int,
    trainer_state: Mapping[str, Any],
) -> Path:
    """Publish the checkpoint of `step`.

    Raises:
        AlreadyPublished: this step has a checkpoint; it is never replaced.
        NotWritten, OSError: the disk did not take it; nothing was published.
    """
    folder = run.checkpoint(step)
    with staged_folder(folder) as staging:
        weights = {
            name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
        }
        try:
            save_file(weights, staging / WEIGHTS_FILE)
            torch.save(dict(trainer_state), staging / TRAINER_FILE)
        except (SafetensorError, RuntimeError) as error:  # neither lets the disk's own error pass
            reason = str(error).partition("\n")[0].rstrip(". ")
            raise NotWritten(f"{folder} was not written ({reason}); is the disk full?") from error
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "step": step,
            "backbone": backbone,
            "embedding_dim": embedding_dim,
            "crop_px": crop_px,
            "weight_sha256": sha256_file(staging / WEIGHTS_FILE),
            "trainer_sha256": sha256_file(staging / TRAINER_FILE),
        }
        (staging / MANIFEST).write_text(dump_json(manifest), encoding="utf-8")
    return folder


def read_checkpoint_manifest(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's manifest.

    Raises:
        NotFound: there is no checkpoint in this folder.
        CorruptCheckpoint: the manifest is none of a checkpoint.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFound(f"no checkpoint in {folder}; expected {MANIFEST} beside its weights")
    mend = f"restore it, or remove {folder} and go on from the checkpoint before it"
    try:
        manifest = read_manifest(path)
    except Damaged as error:
        raise CorruptCheckpoint(f"{path} is damaged, it is no JSON object; {mend}") from error
    wrong = [name for name, kind in _MANIFEST.items() if type(manifest.get(name)) is not kind]
    if wrong:
        raise CorruptCheckpoint(
            f"{path} is no manifest of a checkpoint, it lacks {', '.join(wrong)}; {mend}"
        )
    return manifest


def load_model(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load a checkpoint's backbone in evaluation mode, with its manifest.

    Raises:
        CorruptCheckpoint: the weights' sha256 is not the manifest's.
        CheckpointMismatch: the weights do not fit the backbone that the manifest names.
    """
    manifest = read_checkpoint_manifest(folder)
    _verify(folder, WEIGHTS_FILE, manifest["weight_sha256"])
    model = build_backbone(manifest["backbone"], manifest["embedding_dim"])
    load_weights(model, folder)
    return model.eval(), manifest


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load a checkpoint's weights into `model`, which must have the same parameters.

    Raises:
        CheckpointMismatch: a parameter is missing, unknown or of another shape; the first is named.
    """
    fit_weights(model, load_file(folder / WEIGHTS_FILE), origin=folder)


def fit_weights(model: nn.Module, weights: Mapping[str, torch.Tensor], *, origin: Path) -> None:
    """Give `model` these weights, which must be of its parameters and statistics, name by name.

    Raises:
        CheckpointMismatch: a parameter is missing, unknown or of another shape; the first is named.
    """
    own = model.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        if name not in weights or name not in own or weights[name].shape != own[name].shape:
            found = tuple(weights[name].shape) if name in weights else "absent"
            wanted = tuple(own[name].shape) if name in own else "no such parameter"
            raise CheckpointMismatch(
                f"{origin} does not fit the configured backbone: {name} is {found}, expected "
                f"{wanted}; use the backbone and embedding_dim that made these weights"
            )
    model.load_state_dict(weights)


def load_trainer_state(folder: Path) -> dict[str, Any]:
    """Load what a resumed training needs beside the weights.

    Raises:
        CorruptCheckpoint: the file's sha256 is not the manifest's.
    """
    _verify(folder, TRAINER_FILE, read_checkpoint_manifest(folder)["trainer_sha256"])
    # To the CPU: the optimizer moves it to wherever the parameters are, on a machine without the
    # GPU that it was saved from too.
    state: dict[str, Any] = torch.load(folder / TRAINER_FILE, map_location="cpu", weights_only=True)
    return state


def newest_verified_step(run: RunDir) -> int | None:
    """Return the step of the newest checkpoint whose files match its manifest; None if none."""
    for step in reversed(run.checkpoint_steps()):
        try:
            verify_checkpoint(run.checkpoint(step))
        except (Damaged, NotFound) as error:
            logger.warning("checkpoint %d is passed over: %s", step, error)
            continue
        return step
    return None


def _verify(folder: Path, name: str, sha256: str) -> None:
    path = folder / name
    if not path.is_file() or sha256_file(path) != sha256:
        raise CorruptCheckpoint(
            f"{path} is missing or its bytes changed since it was published; remove {folder} "
            "and resume from the checkpoint before it"
        )


def verify_checkpoint(folder: Path) -> None:
    """Check a checkpoint's files against its manifest.

    Raises:
        CorruptCheckpoint: a file is missing or its bytes changed, or the manifest is none.
        NotFound: there is no checkpoint in this folder.
        NewerSchema: a newer FaceQuarry wrote it.
    """
    manifest = read_checkpoint_manifest(folder)
    _verify(folder, WEIGHTS_FILE, manifest["weight_sha256"])
    _verify(folder, TRAINER_FILE, manifest["trainer_sha256"])


def abandon_unverified(run: RunDir) -> int | None:
    """Move checkpoints newer than the newest one that verifies out of the way; return its step.

    None where none verifies. Training goes on from it and publishes the later steps again. What is
    set aside lies in `abandoned/` for a person to look at.
    """
    verified = newest_verified_step(run)
    for step in run.checkpoint_steps():
        if verified is None or step > verified:
            _abandon(run, step)
    return verified


def verified_or_abandoned(run: RunDir, step: int) -> bool:
    """Say whether `step` has a checkpoint that verifies; one that does not is set aside."""
    if not run.checkpoint(step).exists():
        return False
    try:
        verify_checkpoint(run.checkpoint(step))
    except (Damaged, NotFound) as error:
        logger.warning("checkpoint %d is set aside in abandoned/: %s", step, error)
        _abandon(run, step)
        return False
    return True


def _abandon(run: RunDir, step: int) -> None:
    folder = run.checkpoint(step)
    aside = run.root / "abandoned" / f"{folder.name}-{uuid.uuid4().hex[:8]}"
    aside.parent.mkdir(exist_ok=True)
    folder.rename(aside)
