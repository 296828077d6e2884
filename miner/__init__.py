"""Mine semi-hard triplets: `mine(embeddings, identities)` returns a table, suspects and counts.

The package sits between the trainer's checkpoints and its queue. Start reading in `mining.py`.
`MinerConfig` comes without torch, numba, FAISS or Ray; the rest is imported at first use.

    python -c "import facequarry; print(facequarry.MinerConfig())"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facequarry.miner.config import MinerConfig

if TYPE_CHECKING:
    from facequarry.miner.mining import Mined, mine
    from facequarry.miner.selection.stats import MiningStats

__all__ = ["Mined", "MinerConfig", "MiningStats", "mine"]


def __getattr__(name: str) -> object:
    # Run files are parsed and dashboards opened where torch and numba would only cost seconds.
    if name == "MiningStats":
        from facequarry.miner.selection.stats import MiningStats

        return MiningStats
    if name in ("Mined", "mine"):
        from facequarry.miner import mining

        return getattr(mining, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
