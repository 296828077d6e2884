"""All that determines a generation's bytes, resolved: what is mined, from what, and how.

A refresh makes the recipe from its plan, the manifest repeats it, and a replay reads it from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch

from datasets.snapshots import Snapshot
from datasets.split import Split
from miner.config import Device, MinerConfig
from miner.stats import MiningStats
from trainer.config import Augmentation

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
        asked: engine, anchors, device and rows_needed as they were before they were resolved.
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

    def facts(self, stats: MiningStats) -> dict[str, object]:
        """Return what the manifest says beside number, step, rows and files."""
        return {
            "weight_sha256": self.weight_sha256,
            "snapshot": self.snapshot,
            "snapshot_sha256": self.snapshot_sha256,
            "split": asdict(self.split),
            "augmentation": None if self.augmentation is None else asdict(self.augmentation),
            "plan": {
                "engine": stats.engine,
                "embedded_faces": stats.num_embedded,
                "embedded_identities": stats.num_identities,
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
    def from_manifest(cls, manifest: Mapping[str, Any], *, threads: int | None = None) -> Recipe:
        """Read the recipe of a published generation.

        Args:
            manifest: of the generation.
            threads: CPU threads to mine with.

        Raises:
            ValueError: another version of FaceQuarry wrote the manifest, and it says less or more.
        """
        number = manifest["generation"]
        try:
            config = dict(manifest["config"])
            needed = {field.name for field in fields(MinerConfig)} - {"threads"}
            if config.keys() != needed or config["device"] == "auto":
                raise KeyError(*sorted(config.keys() ^ needed) or ["device"])
            return cls(
                number=number,
                step=manifest["mined_at_step"],
                weight_sha256=manifest["weight_sha256"],
                snapshot=manifest["snapshot"],
                snapshot_sha256=manifest["snapshot_sha256"],
                split=Split(**manifest["split"]),
                config=MinerConfig(
                    **config | {"fallback": tuple(config["fallback"]), "threads": threads}
                ),
                seed=manifest["plan"]["seed"],
                augmentation=manifest["augmentation"] and Augmentation(**manifest["augmentation"]),
                asked=manifest["plan"]["asked"],
            )
        except (KeyError, TypeError) as error:
            names = ", ".join(map(str, error.args))
            raise ValueError(
                f"generation {number} cannot be replayed: its manifest was written by another "
                f"version of FaceQuarry (it differs in {names}); use that version"
            ) from error


def asked_of(config: MinerConfig, rows_needed: int | None) -> dict[str, object]:
    """Return what `Recipe.asked` holds."""
    return {name: getattr(config, name) for name in _RESOLVED} | {"rows_needed": rows_needed}


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """Return where to embed.

    Raises:
        ValueError: a GPU is asked for and there is none.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise ValueError(
            "miner.device is cuda and PyTorch sees no CUDA device here; set it to auto or cpu, or "
            "go where there is one"
        )
    return "cuda"


def snapshot_digest(snapshot: Snapshot) -> str:
    """Return a hex SHA-256 over a snapshot's shards, in order, and its identities."""
    shards = "".join(f"{s.first_face_index}:{s.summary.sha256}\n" for s in snapshot.shards)
    return hashlib.sha256((shards + snapshot.identities_sha256).encode()).hexdigest()
