"""Why a first generation has too few rows to train on, read from its counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COUNTS = ("pairs", "semi_hard", "band_empty", "beyond_search", "suspect")
_OTHERWISE = "or set refresh.on_empty = random"


class EmptyGeneration(ValueError):
    """The first generation has fewer rows than a batch, so training could never begin."""


def why_empty(manifest: Mapping[str, Any], reason: str) -> str:
    """Return the sentence for an `EmptyGeneration`.

    Args:
        manifest: of the generation.
        reason: why the queue does not serve it.
    """
    stats, plan = manifest.get("stats", {}), manifest.get("plan", {})
    counts = [f"{name} {stats[name]}" for name in _COUNTS if name in stats]
    for name in ("embedded_faces", "embedded_identities"):
        if name in plan:
            counts.append(f"{name.replace('_', ' ')} {plan[name]}")
    return (
        f"generation {manifest['generation']} cannot be served: {reason} "
        f"({', '.join(counts) or 'nothing was counted'}); {_advice(stats)}"
    )


def _advice(stats: Mapping[str, Any]) -> str:
    pairs = stats.get("pairs", 0)
    if "pairs" in stats and pairs == 0:
        return f"no anchor had a positive: mine more anchors, or ingest more photos, {_OTHERWISE}"
    lost = {name: stats.get(name, 0) for name in _COUNTS[2:]}
    most = max(lost, key=lambda name: lost[name])
    if 2 * lost[most] <= pairs:
        return (
            "lower trainer.batch, raise miner.anchors, widen miner.margin, add miner.fallback, "
            f"{_OTHERWISE}"
        )
    match most:
        case "band_empty":
            return (
                "most pairs have no negative in their band: widen miner.margin, embed more "
                f"identities, add miner.fallback, {_OTHERWISE}"
            )
        case "beyond_search":
            return (
                "the bands of most pairs lie beyond the neighbours that were searched: raise "
                f"miner.neighbours, set miner.engine = exact, {_OTHERWISE}"
            )
        case _:
            return (
                "most pairs are farther apart than miner.positive_cap: raise it, or clean the "
                f"labels in suspects.parquet, {_OTHERWISE}"
            )
