"""All that determines a generation's bytes: what a run asks for, and resolved for one generation.

A refresh makes the recipe from the run's plan, the manifest repeats it, and a replay reads it from
there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.snapshots import snapshot_digest
from facequarry.datasets.faces.split import Split
from facequarry.datasets.faces.store import FaceStore
from facequarry.miner.config import Device, MinerConfig
from facequarry.miner.engines.cost import choose_engine
from facequarry.miner.refresh.budget.budget import Budget
from facequarry.miner.refresh.budget.rotation import Ints, Rotation, read_rotation
from facequarry.miner.refresh.recipe_versions import RECIPE_VERSION, check_version, read_fields
from facequarry.miner.refresh.refresh_config import Snapshots
from facequarry.miner.selection.stats import MiningStats
from facequarry.trainer.config import Augmentation

_RESOLVED = ("engine", "anchors", "device")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What one generation is made of.

    Attributes:
        number: the generation's number in the run.
        step: step of the checkpoint that is mined.
        weight_sha256: of the checkpoint's weights.
        snapshot: number of the snapshot of the faces.
        snapshot_sha256: of its shards and identities (`snapshot_digest`).
        split: which identities are mined (the training part).
        config: how, with engine, anchors and device resolved.
        seed: of every draw.
        augmentation: how faces are changed before they are embedded, as training will change
            them; None embeds them as they are.
        asked: engine, anchors, device, rows_needed and budget_steps as they were before they were
            resolved.
        rotation: the cycle whose part of this number is embedded; None embeds all identities.
    """

    number: int
    step: int
    weight_sha256: str
    snapshot: int
    snapshot_sha256: str
    split: Split
    config: MinerConfig
    seed: int
    augmentation: Augmentation | None
    asked: Mapping[str, object]
    rotation: Rotation | None = None

    def faces(self, store: FaceStore) -> Ints:
        """Return the face_index of each face to embed, ascending."""
        face_indices = self.split.faces(store, "train")
        if self.rotation is None:
            return face_indices
        embedded = self.rotation.embedded_by(self.number)
        return face_indices[np.isin(store.identity_index[face_indices], embedded)]

    def facts(self, stats: MiningStats) -> dict[str, object]:
        """Return what the manifest says beside number, step, rows and files."""
        return {
            "recipe_version": RECIPE_VERSION,
            "weight_sha256": self.weight_sha256,
            "snapshot": self.snapshot,
            "snapshot_sha256": self.snapshot_sha256,
            "split": asdict(self.split),
            "augmentation": None if self.augmentation is None else asdict(self.augmentation),
            "plan": {
                "engine": stats.engine,
                "embedded_faces": stats.num_embedded,
                "embedded_identities": stats.num_identities,
                "identities": self.rotation and self.rotation.to_manifest(self.number),
                "anchors": stats.num_anchors,
                "largest_k": stats.largest_k,
                "seed": self.seed,
                "asked": dict(self.asked),
            },
            # Threads never change results, so they are no part of what determines them.
            "config": {k: v for k, v in asdict(self.config).items() if k != "threads"},
            "stats": stats.to_dict(),
        }

    @classmethod
    def from_manifest(
        cls, manifest: Mapping[str, Any], folder: Path, *, threads: int | None = None
    ) -> Recipe:
        """Read the recipe of a published generation.

        Args:
            manifest: of the generation.
            folder: where it lies.
            threads: CPU threads to mine with.

        Raises:
            NewerSchema: a newer FaceQuarry wrote the manifest.
            BadInput: it says less or more than any release did, or asks for what is gone since;
                or the file that says which identities were embedded is damaged.
        """
        check_version(manifest)
        number = manifest["generation"]
        rotation = read_rotation(folder, manifest)
        try:
            config = read_fields(MinerConfig, manifest["config"], apart=("threads",))
            changed = manifest["augmentation"]
            if config["device"] == "auto":
                raise BadInput("it differs in device")
            return cls(
                number=number,
                step=manifest["mined_at_step"],
                weight_sha256=manifest["weight_sha256"],
                snapshot=manifest["snapshot"],
                snapshot_sha256=manifest["snapshot_sha256"],
                split=Split(**read_fields(Split, manifest["split"])),
                config=MinerConfig(
                    **config | {"fallback": tuple(config["fallback"]), "threads": threads}
                ),
                seed=manifest["plan"]["seed"],
                augmentation=changed and Augmentation(**read_fields(Augmentation, changed)),
                asked=manifest["plan"]["asked"],
                rotation=rotation,
            )
        except (KeyError, TypeError, BadInput) as error:
            why = error if isinstance(error, BadInput) else f"it lacks {error}"
            raise BadInput(
                f"generation {number} cannot be replayed: its manifest was written by another "
                f"version of FaceQuarry ({why}); use that version"
            ) from error


def rows_of(config: MinerConfig, faces: Ints) -> Ints:
    """Return (P,) how many triplets identities can give at most.

    Args:
        config: positives and negatives of an anchor.
        faces: (P,) of each identity.
    """
    positives = np.maximum(faces - 1, 0)
    if config.positives_per_anchor is not None:
        positives = np.minimum(positives, config.positives_per_anchor)
    rows: Ints = faces * positives * config.negatives_per_pair
    return rows


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """Return where to embed.

    Raises:
        BadInput: a GPU is asked for and there is none.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise BadInput(
            "miner.device is cuda and PyTorch sees no CUDA device here; set it to auto or cpu, or "
            "go where there is one"
        )
    return "cuda"


@dataclass(frozen=True, kw_only=True, slots=True)
class RefreshPlan:
    """What every refresh of a run is told.

    Attributes:
        config: how to mine.
        split: which identities are mined (the training part).
        rows_needed: triplets that training will consume before the next generation; anchors are
            budgeted by it where `config.anchors` is None. None: every face is an anchor.
        seed: the run's seed.
        snapshots: mine the newest snapshot of the faces, or always the run's first.
        augmentation: change the faces before they are embedded, as training will; None mines them
            as they are.
        budget: what a refresh may take; None embeds all identities, however long that takes.
    """

    config: MinerConfig
    split: Split
    rows_needed: int | None
    seed: int
    snapshots: Snapshots = "newest"
    augmentation: Augmentation | None = None
    budget: Budget | None = None

    def asked(self) -> dict[str, object]:
        """Return what `Recipe.asked` holds."""
        return {name: getattr(self.config, name) for name in _RESOLVED} | {
            "rows_needed": self.rows_needed,
            "budget_steps": None if self.budget is None else self.budget.steps,
        }

    def resolved(self, identities: npt.NDArray[np.integer]) -> MinerConfig:
        """Return the miner's configuration with the anchors this plan asks for.

        Args:
            identities: (N,) the identity of each embedded face.
        """
        if self.config.anchors is not None or self.rows_needed is None:
            return self.config
        counts = np.unique(identities, return_counts=True)[1]
        if counts.max() < 2:
            return self.config  # nothing to mine, which mining says
        # Rows that an anchor gives, over the faces that have a positive at all.
        per_anchor = rows_of(self.config, counts).sum() / counts[counts > 1].sum()
        wanted = math.ceil(self.rows_needed / per_anchor)
        return self.config if wanted >= len(identities) else replace(self.config, anchors=wanted)

    def recipe(
        self,
        store: FaceStore,
        checkpoint: Mapping[str, Any],
        *,
        number: int,
        rotation: Rotation | None = None,
    ) -> Recipe:
        """Return all that determines the next generation.

        Args:
            store: the faces to mine.
            checkpoint: manifest of the checkpoint to mine with.
            number: the generation's.
            rotation: the cycle whose part of this number is embedded; None embeds all identities.

        Raises:
            BadInput: no identity falls into the training part, or there is no such device.
        """
        asked = Recipe(
            number=number,
            step=int(checkpoint["step"]),
            weight_sha256=checkpoint["weight_sha256"],
            snapshot=store.manifest.number,
            snapshot_sha256=snapshot_digest(store.manifest),
            split=self.split,
            config=self.config,
            # Other anchors and other random negatives each time.
            seed=self.seed * 1_000_003 + number,
            augmentation=self.augmentation,
            asked=self.asked(),
            rotation=rotation,
        )
        identities = store.identity_index[asked.faces(store)]
        config = self.resolved(identities)
        num_faces = np.unique(identities, return_counts=True)[1]
        num_able = int(num_faces[num_faces > 1].sum())  # faces that have a positive
        num_anchors = min(config.anchors or num_able, num_able)
        engine = choose_engine(config, len(identities), num_anchors)
        device = resolve_device(config.device)
        return replace(asked, config=replace(config, engine=engine, device=device))
