"""FaceQuarry: streaming face-data mining and offline semi-hard triplet selection on Ray.

The one import name. `datasets <- trainer <- miner <- jobs` lie beside this folder in a clone and
inside it in a wheel; `mine`, `MinerConfig` and what they return are here for who needs only them.

    python -c "import facequarry; print(facequarry.MinerConfig())"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from facequarry.miner import MinerConfig

if TYPE_CHECKING:
    from facequarry.miner import Mined, MiningStats, mine

__all__ = ["Mined", "MinerConfig", "MiningStats", "mine"]


def __getattr__(name: str) -> object:
    # torch and numba cost seconds, and most modules below are imported through here.
    if name in ("Mined", "MiningStats", "mine"):
        from facequarry import miner

        return getattr(miner, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
