"""Small galleries full of ties: few directions, faces shared between identities, lone faces."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from facequarry.miner import Mined, MinerConfig, mine
from facequarry.miner.selection.stats import MiningStats
from tests.miner.oracle import Expected


def on_circle(angles: list[float]) -> NDArray[np.float32]:
    """Return (N, 2) float32 unit rows at these angles in degrees."""
    radians = np.deg2rad(np.array(angles, np.float64))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def separated(
    num_identities: int, faces: int, dimension: int, noise: float, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return random unit rows around random centres, in shuffled order, and their identities."""
    random = np.random.default_rng(seed)
    identities = random.permutation(np.repeat(np.arange(num_identities), faces))
    x = random.normal(size=(num_identities, dimension))[identities]
    x += noise * random.normal(size=x.shape)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x.astype(np.float32), identities


@st.composite
def galleries(draw: st.DrawFn) -> tuple[NDArray[np.float32], list[int]]:
    """Draw up to 14 faces on a circle or from a few 4-d directions, one identity of two or more."""
    identities = [0, 0, 1, *draw(st.lists(st.integers(0, 4), max_size=11))]
    identities = draw(st.permutations(identities))
    size: Any = {"min_size": len(identities), "max_size": len(identities)}
    if draw(st.booleans()):
        # Whole multiples of 15 degrees tie all the time; a nudge of 1e-4 almost does.
        angles = draw(st.lists(st.integers(0, 23), **size))
        nudges = draw(st.lists(st.sampled_from([0.0, 0.0, 1e-4]), **size))
        return on_circle([15 * a + n for a, n in zip(angles, nudges, strict=True)]), identities
    values = draw(
        st.lists(st.lists(st.integers(-1, 1), min_size=4, max_size=4).filter(any), **size)
    )
    x = np.array(values, np.float64)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), identities


@st.composite
def configs(draw: st.DrawFn) -> MinerConfig:
    """Draw any configuration but its engine."""
    positives = draw(st.sampled_from(["all", "random", "hardest"]))
    negatives = draw(st.sampled_from(["nearest", "random", "hardest"]))
    rungs = st.lists(st.sampled_from(["easy", "hard", "random"]), unique=True)
    options: dict[str, Any] = {
        "margin": draw(st.sampled_from([1e-6, 0.01, 0.2, 1.0, 3.999])),
        "max_uses_as_negative": draw(st.none() | st.integers(1, 4)),
        "anchors": draw(st.none() | st.integers(1, 6)),
        "positives": positives,
        "positives_per_anchor": None if positives == "all" else draw(st.none() | st.integers(1, 3)),
        "negatives": negatives,
        "negatives_per_pair": draw(st.integers(1, 4)),
        "distinct_negative_identities": draw(st.booleans()),
        "fallback": () if negatives == "hardest" else tuple(draw(rungs)),
        "duplicate_floor": draw(st.none() | st.sampled_from([1e-9, 0.05, 1.0])),
        "positive_cap": draw(st.none() | st.sampled_from([0.3, 1.0, 3.0])),
        "threads": draw(st.integers(1, 3)),
    }
    return MinerConfig(**options)


def assert_equals(mined: Mined, expected: Expected) -> None:
    """Compare tables bit for bit, and all counts that do not depend on the engine."""
    columns = mined.table.to_pydict()
    found = list(zip(*columns.values(), strict=True))
    assert found == [
        (row.anchor, row.positive, row.negative, float(row.d2_ap), float(row.d2_an), row.kind)
        for row in expected.rows
    ]
    suspects = list(zip(*mined.suspects.to_pydict().values(), strict=True))
    assert suspects == [(*suspect[:3], float(suspect[3])) for suspect in expected.suspects]
    stats = mined.stats.to_dict()
    assert {name: stats[name] for name in expected.counts} == expected.counts
    assert stats["beyond_search"] == 0
    assert_adds_up(mined)


def assert_equals_exact_when_larger(negatives: str, fields: set[str], **engine: Any) -> MiningStats:
    """Mine 400 faces by an engine and by the exact one; all but `fields` of the stats is equal."""
    x, identities = separated(40, 10, 32, 1.0)
    options: dict[str, Any] = {
        "negatives": negatives,
        "negatives_per_pair": 2,
        "distinct_negative_identities": True,
        "fallback": () if negatives == "hardest" else ("hard", "easy"),
        "duplicate_floor": 0.6,
        "positive_cap": 1.5,
    }
    exact = mine(x, identities, config=MinerConfig(engine="exact", **options))
    found = mine(x, identities, config=MinerConfig(**engine, **options))
    assert found.table.equals(exact.table)
    assert found.suspects.equals(exact.suspects)
    expected, got = exact.stats.to_dict(), found.stats.to_dict()
    assert {name for name in got if got[name] != expected[name]} == fields
    return found.stats


def assert_adds_up(mined: Mined) -> None:
    """Check what holds for the counts of every pass, whatever its engine saw."""
    stats = mined.stats
    outcomes = (stats.semi_hard, stats.band_empty, stats.beyond_search, stats.suspect)
    assert stats.pairs == sum(outcomes) == sum(stats.d2_ap_histogram)
    assert stats.rows == sum(stats.rows_by_kind.values()) == mined.table.num_rows
    columns = mined.table.select(["anchor", "positive"]).to_pydict().values()
    num_pairs = len(set(zip(*columns, strict=True)))
    assert stats.pairs == stats.suspect + stats.pairs_without_rows + num_pairs
