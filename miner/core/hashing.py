"""Draws by hash: a function of seed, purpose and values alone, whatever the order of the work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facequarry.miner.kernels.hashed_d2 import fold_each
from facequarry.miner.kernels.layout import Int64Array

# What a hash is drawn for; keeps draws for different purposes independent.
ANCHOR, POSITIVE, NEGATIVE, RECALL, USE, SAMPLED, TRAINING = range(7)


def hash_state(seed: int, purpose: int, *values: Int64Array) -> NDArray[np.uint64]:
    """Return hash(seed, purpose, values...) for each position of the equally long arrays.

    The hash folds one integer after the other into a 64-bit state with the splitmix64 finaliser.
    It depends on the values alone, so that a draw is the same for every order, tile or thread.
    """
    count = values[0].size
    # Seeds of any size and sign; the two's complement of 64 bits is what a kernel can hold.
    seed_bits = np.array([seed & 0xFFFF_FFFF_FFFF_FFFF], np.uint64).view(np.int64)
    state = np.zeros(1, np.uint64)
    for value in (seed_bits, np.array([purpose], np.int64)):
        fold_each(state, value, state)
    state = np.repeat(state, count)
    for value in values:
        fold_each(state, np.ascontiguousarray(value), state)
    return state
