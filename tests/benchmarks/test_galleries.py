from __future__ import annotations

import numpy as np
import pytest

from benchmarks.galleries import GALLERIES
from facequarry.miner import MinerConfig, mine

CONFIG = MinerConfig(engine="exact", anchors=300, positives="random", positives_per_anchor=4)


@pytest.mark.parametrize("name", GALLERIES)
def test_gallery_is_sorted_unit_float32_and_the_same_again(name: str) -> None:
    x, identities = GALLERIES[name](1010, dimension=32, faces_per_identity=20, seed=1)
    assert x.shape == (1010, 32) and x.dtype == np.float32
    assert np.bincount(identities).tolist() == [20] * 50 + [10]
    assert np.all(identities[:-1] <= identities[1:])
    assert np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    again = GALLERIES[name](1010, dimension=32, faces_per_identity=20, seed=1)[0]
    assert again.tobytes() == x.tobytes()
    assert not np.array_equal(GALLERIES[name](1010, dimension=32, seed=2)[0], x)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("separated", 0, 0.01), ("untrained", 1, 1), ("collapsed", 0.99, 1), ("confusable", 0.2, 0.6)],
)
def test_share_of_semi_hard_pairs_is_what_the_gallery_stands_for(
    name: str, least: float, most: float
) -> None:
    stats = mine(*GALLERIES[name](10_000), config=CONFIG).stats
    assert least <= stats.semi_hard / stats.pairs <= most


def test_collapsed_faces_are_within_a_hundredth_of_each_other() -> None:
    x, _ = GALLERIES["collapsed"](500)
    assert 0.001 < float((2 - 2 * (x.astype(np.float64) @ x.T)).max()) < 0.02
