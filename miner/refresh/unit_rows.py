"""What a checkpoint's weights give must be unit rows: looked at between embedding and mining."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from facequarry.datasets.disk.errors import Failure
from facequarry.miner.core.distance import NORM_TOLERANCE


class CannotEmbed(Failure):
    """A checkpoint's weights give no embeddings; another checkpoint's may."""


def check_unit_rows(
    step: int, face_indices: npt.NDArray[np.int64], embeddings: npt.NDArray[np.float32]
) -> None:
    """Check what the checkpoint of `step` made of faces.

    Args:
        step: of the checkpoint.
        face_indices: (N,) the faces.
        embeddings: (N, D) what became of them.

    Raises:
        CannotEmbed: a row holds NaN or infinity, or its norm is not 1.
    """
    norms = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float64))
    bad = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))  # NaN is in no order
    if bad.size:
        norm = norms[bad[0]]
        found = f"a row of norm {norm:.6g}" if np.isfinite(norm) else "NaN or infinity"
        raise CannotEmbed(
            f"the checkpoint of step {step} embeds face {face_indices[bad[0]]} as {found} "
            f"({bad.size} of {norms.size} faces as no unit row); nothing was mined; take another "
            "checkpoint"
        )
