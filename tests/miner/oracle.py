"""Mining by the definitions alone: triple loops in plain Python, for a few dozen faces.

It shares no code with the miner. Distances follow the definition of d2, hashes the definition of
splitmix64, and every choice is a sort over a list of candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facequarry.miner import MinerConfig

MASK = 2**64 - 1
KINDS = ("semi_hard", "hard", "easy", "random")


class Row(NamedTuple):
    anchor: int
    positive: int
    negative: int
    d2_ap: np.float32
    d2_an: np.float32
    kind: str


class Expected(NamedTuple):
    rows: list[Row]
    suspects: list[tuple[str, int, int, np.float32]]
    counts: dict[str, Any]


def defined_d2(a: NDArray[np.float32], b: NDArray[np.float32]) -> np.float32:
    total = 0.0
    for left, right in zip(a.tolist(), b.tolist(), strict=True):
        total += (left - right) * (left - right)
    return np.float32(total)


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def seeded_hash(seed: int, *values: int) -> int:
    state = 0
    for value in (seed, *values):
        state = mix((state + 0x9E3779B97F4A7C15 * ((value & MASK) + 1)) & MASK)
    return state


def mine_slowly(
    x: NDArray[np.float32],
    identities: list[int],
    config: MinerConfig,
    seed: int,
    ids: list[int] | None = None,
) -> Expected:
    faces = ids or list(range(len(identities)))
    place = {face: index for index, face in enumerate(faces)}
    identity = {face: identities[place[face]] for face in faces}

    def d2(a: int, b: int) -> np.float32:
        return defined_d2(x[place[a]], x[place[b]])

    floor = np.float32(config.duplicate_floor or 0)
    rows: list[Row] = []
    suspects: set[tuple[str, int, int, np.float32]] = set()
    d2_ap_seen: list[np.float32] = []
    nearest_seen: list[np.float32] = []
    counts: dict[str, Any] = dict.fromkeys(
        ("pairs", "semi_hard", "band_empty", "suspect", "suspect_negatives"), 0
    )
    rungs = dict.fromkeys(config.fallback, 0)

    anchors = [a for a in faces if list(identity.values()).count(identity[a]) > 1]
    if config.anchors is not None:
        anchors = sorted(anchors, key=lambda a: seeded_hash(seed, 0, a))[: config.anchors]
    for a in sorted(anchors):
        strangers = [n for n in faces if identity[n] != identity[a]]
        duplicates = sorted((d2(a, n), n) for n in strangers if d2(a, n) < floor)
        counts["suspect_negatives"] += len(duplicates)
        for value, n in duplicates[:8]:
            suspects.add(("under_duplicate_floor", min(a, n), max(a, n), value))
        negatives = [n for n in strangers if d2(a, n) >= floor]
        if negatives:
            nearest_seen.append(min(d2(a, n) for n in negatives))

        positives = []
        for p in [p for p in faces if identity[p] == identity[a] and p != a]:
            if config.positive_cap is not None and d2(a, p) > np.float32(config.positive_cap):
                suspects.add(("over_positive_cap", min(a, p), max(a, p), d2(a, p)))
                counts["suspect"] += 1
                counts["pairs"] += 1
                d2_ap_seen.append(d2(a, p))
            else:
                positives.append(p)
        if config.positives == "random":
            positives = [p for _, p in sorted((seeded_hash(seed, 1, a, p), p) for p in positives)]
        elif config.positives == "hardest":
            positives = [p for _, p in sorted((-d2(a, p), p) for p in positives)]
        for p in sorted(positives[: config.positives_per_anchor]):
            d2_ap = d2(a, p)
            upper = np.float32(float(d2_ap) + config.margin)
            counts["pairs"] += 1
            d2_ap_seen.append(d2_ap)

            def prefer(
                candidates: list[int], key: Callable[[int], Any], a: int = a, p: int = p
            ) -> list[int]:
                chosen: list[int] = []
                for n in sorted(candidates, key=lambda n: (key(n), n)):
                    taken = {identity[other] for other in chosen}
                    if not (config.distinct_negative_identities and identity[n] in taken):
                        chosen.append(n)
                return chosen[: config.negatives_per_pair]

            def nearest(n: int, a: int = a) -> Any:
                return d2(a, n)

            def farthest(n: int, a: int = a) -> Any:
                return -d2(a, n)

            def hashed(n: int, a: int = a, p: int = p) -> Any:
                return seeded_hash(seed, 2, a, p, n)

            semi_hard = [n for n in negatives if d2_ap < d2(a, n) < upper]
            counts["semi_hard" if semi_hard else "band_empty"] += 1
            rung: str | None = None
            if config.negatives == "hardest":
                served = prefer(negatives, nearest)
            else:
                served = prefer(semi_hard, hashed if config.negatives == "random" else nearest)
                for rung in config.fallback if not served else ():
                    match rung:
                        case "easy":
                            easy = [n for n in negatives if d2_ap < d2(a, n) >= upper]
                            served = prefer(easy, nearest)
                        case "hard":
                            served = prefer([n for n in negatives if d2(a, n) <= d2_ap], farthest)
                        case "random":
                            served = prefer(negatives, hashed)
                    if served:
                        rungs[rung] += 1
                        break
            for n in served:
                kind = "hard" if d2(a, n) <= d2_ap else "easy" if d2(a, n) >= upper else "semi_hard"
                kind = "random" if rung == "random" else kind
                rows.append(Row(a, p, n, d2_ap, d2(a, n), kind))

    everything = rows
    if config.max_uses_as_negative is not None:
        rows = []
        for row in everything:
            rivals = [r for r in everything if r.negative == row.negative]
            rivals.sort(key=lambda r: (seeded_hash(seed, 4, *r[:3]), r))
            if row in rivals[: config.max_uses_as_negative]:
                rows.append(row)
    counts["over_max_uses"] = len(everything) - len(rows)
    counts["rows"] = len(rows)
    counts["rows_by_kind"] = {kind: sum(row.kind == kind for row in rows) for kind in KINDS}
    counts["pairs_by_rung"] = rungs
    counts["pairs_without_rows"] = (
        counts["pairs"] - counts["suspect"] - len({(row.anchor, row.positive) for row in rows})
    )
    counts["num_anchors"] = len(anchors)
    counts["num_embedded"] = len(faces)
    counts["num_identities"] = len(set(identities))
    counts["d2_ap_histogram"] = in_bins(d2_ap_seen)
    counts["nearest_d2_an_histogram"] = in_bins(nearest_seen)
    return Expected(rows, sorted(suspects), counts)


def in_bins(values: list[np.float32]) -> list[int]:
    bins = [0] * 80
    for value in values:
        bins[min(int(float(value) / 0.05), 79)] += 1
    return bins
