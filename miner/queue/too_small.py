"""A first generation with too few rows to train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facequarry.datasets.disk.errors import BadInput
from facequarry.miner.selection.stats import where_pairs_went


class EmptyGeneration(BadInput):
    """The first generation has fewer rows than a batch, so training could never begin."""


def why_empty(manifest: Mapping[str, Any], reason: str) -> str:
    """Return the sentence for an `EmptyGeneration`.

    Args:
        manifest: of the generation.
        reason: why the queue does not serve it.
    """
    stats, plan = manifest.get("stats"), manifest.get("plan", {})
    names = ("embedded_faces", "embedded_identities")
    mined = [f"{name.replace('_', ' ')} {plan[name]}" for name in names if name in plan]
    counts = [*mined, where_pairs_went(stats) if stats else "nothing was counted"]
    return (
        f"generation {manifest['generation']} cannot be served: {reason} ({', '.join(counts)}); "
        "mend that, lower trainer.batch, or set refresh.on_empty = random"
    )
