"""Order the rows of a generation so that a batch touches few distinct faces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

# Rows of one identity that stay together. More would share more faces in a batch and leave fewer
# identities in it; four rows are one anchor with the four positives that run files take.
BLOCK_ROWS = 4


def pack(table: pa.Table, identity_of_anchor: npt.NDArray[np.integer], *, seed: int) -> pa.Table:
    """Return the rows in lease order: blocks of one identity's rows, the blocks shuffled.

    Rows of an anchor lie side by side, so that its face and its positives are embedded once for
    all of them. The step's batch cuts the file wherever it falls; a cut costs a face or two.

    Args:
        table: (T) rows with the columns of `datasets.triplets.TRIPLETS`.
        identity_of_anchor: (T,) the identity of each row's anchor.
        seed: of the shuffle.
    """
    order = np.lexsort(
        (
            table["negative"].to_numpy(),
            table["positive"].to_numpy(),
            table["anchor"].to_numpy(),
            identity_of_anchor,
        )
    )
    identity = identity_of_anchor[order]
    starts = np.flatnonzero(np.r_[True, identity[1:] != identity[:-1]]) if len(order) else order
    run_lengths = np.diff(np.r_[starts, len(order)])
    place_in_identity = np.arange(len(order)) - np.repeat(starts, run_lengths)
    block = np.cumsum(place_in_identity % BLOCK_ROWS == 0) - 1
    num_blocks = int(block[-1]) + 1 if len(order) else 0
    shuffled = np.random.default_rng(seed).permutation(num_blocks)
    return table.take(pa.array(order[np.argsort(shuffled[block], kind="stable")]))
