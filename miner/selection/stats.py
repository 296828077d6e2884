"""What a mining pass counted, in plain numbers that go into a generation's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.runs.vocabulary import BAND_EMPTY, BEYOND_SEARCH, SEMI_HARD, SUSPECT
from facequarry.miner.core.stopwatch import in_seconds
from facequarry.miner.kernels.layout import Int64Array, Report, Rows
from facequarry.miner.selection.observe import Observed

HISTOGRAM_BINS = 80
HISTOGRAM_STEP = 4 / HISTOGRAM_BINS

_WHERE_PAIRS_GO = (
    (SEMI_HARD, "have a negative in their band"),
    (
        BAND_EMPTY,
        "have none (widen miner.margin, embed more identities, or set miner.fallback)",
    ),
    (
        BEYOND_SEARCH,
        "have a band beyond what was searched (raise miner.neighbours_limit, miner.nprobe or "
        "miner.routed_identities, or set miner.resolve = exact)",
    ),
    (
        SUSPECT,
        "are over miner.positive_cap (raise it, or clean the labels in suspects.parquet)",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MiningStats:
    """Counts of one `mine` call.

    `pairs == semi_hard + band_empty + beyond_search + suspect` holds in every mode, because these
    speak of bands and not of rows: with `negatives = "hardest"` a pair is semi_hard when its band
    holds a negative, whatever row it was served. Negatives under duplicate_floor do not exist for
    any of them. Rows are counted apart, in `rows_by_kind`.
    """

    engine: str
    """The engine that mined: exact, routed or faiss."""

    index: str | None
    """The FAISS factory string; None for the other engines."""

    num_embedded: int
    """Rows in the gallery, N: all counts speak of these."""

    num_identities: int
    """Identities among the embedded rows."""

    num_anchors: int
    """Rows that were mined as anchors."""

    pairs: int
    """Ordered anchor-positive pairs: those chosen, and every one over positive_cap."""

    semi_hard: int
    """Pairs with at least one negative in their band."""

    band_empty: int
    """Pairs proven to have none."""

    beyond_search: int
    """Pairs for which none was found and none excluded; 0 for exact."""

    suspect: int
    """Pairs over positive_cap; not trained on."""

    suspect_negatives: int
    """Ordered (anchor, negative) pairs under duplicate_floor that were found and skipped."""

    rows: int
    """Triplets in the table."""

    rows_by_kind: dict[str, int]
    """Triplets by kind: semi_hard, hard, easy, random; they add up to `rows`."""

    pairs_by_rung: dict[str, int]
    """Pairs that each fallback rung served, in the order in which they were tried; rows that
    over_max_uses dropped afterwards included."""

    pairs_without_rows: int
    """Pairs that are not suspect and yet have no row in the table."""

    over_max_uses: int
    """Rows dropped because their negative had served max_uses_as_negative others."""

    d2_ap_histogram: list[int]
    """Pairs by d2_ap, suspects included: 80 bins of 0.05 over 0..4, the last one open above."""

    nearest_d2_an_histogram: list[int]
    """Anchors by the d2 of their nearest negative that is not under duplicate_floor, same bins."""

    largest_k: int | None
    """Largest K that FAISS was asked for; None for the other engines."""

    recall_pairs: int
    """Semi-hard pairs of the anchors that were mined a second time, exactly; 0 for exact."""

    recall_vs_exact: float | None
    """Share of `recall_pairs` that the engine found a negative for; None when there are none."""

    num_resolved: int = 0
    """Anchors that `resolve = "exact"` handed to the exact engine, once for each search call."""

    dimension: int | None = None
    """Length of an embedding, D; None where nobody said."""

    observed: Observed | None = None
    """Hubs and confused identities of the table, by `observe.py`; None where nobody looked."""

    symmetric: bool = field(default=False, compare=False)
    """Whether one product served both its rows as anchors; not in `to_dict`."""

    undecided_share: float | None = field(default=None, compare=False)
    """Distances that had to be computed over (anchor, row) products looked at; where one product
    served both its rows, so did its distance. Not in `to_dict`."""

    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    """Seconds by stage; left out of `to_dict`, which holds only what a replay repeats."""

    def timing(self) -> dict[str, float | bool | None]:
        """Return what a replay need not repeat: seconds by stage, and how the search worked."""
        how = {"symmetric": self.symmetric, "undecided_share": self.undecided_share}
        return in_seconds(self.seconds) | how

    def to_dict(self) -> dict[str, Any]:
        """Return all that a replay repeats as plain JSON-able values."""
        left_out = ("seconds", "symmetric", "undecided_share")
        return {name: value for name, value in asdict(self).items() if name not in left_out}


class Recall(NamedTuple):
    """What an approximate engine finds of what there is, as a sample of anchors shows."""

    pairs: int
    """As `MiningStats.recall_pairs`."""
    share: float | None
    """As `MiningStats.recall_vs_exact`."""


@dataclass(slots=True)
class Counts:
    """Totals that grow while a pass mines; the names are those of `MiningStats`."""

    pairs: int = 0
    semi_hard: int = 0
    band_empty: int = 0
    beyond_search: int = 0
    suspect: int = 0
    suspect_negatives: int = 0
    pairs_without_rows: int = 0
    over_max_uses: int = 0
    rows_by_kind: dict[str, int] = field(default_factory=dict)
    pairs_by_rung: dict[str, int] = field(default_factory=dict)
    d2_ap: Int64Array = field(default_factory=lambda: np.zeros(HISTOGRAM_BINS, np.int64))
    nearest_d2_an: Int64Array = field(default_factory=lambda: np.zeros(HISTOGRAM_BINS, np.int64))

    def stats(
        self,
        rows: Rows,
        num_anchors: int,
        report: Report,
        recall: Recall,
        *,
        observed: Observed,
        seconds: dict[str, float],
    ) -> MiningStats:
        """Return the statistics of the pass that counted this."""
        return MiningStats(
            engine=report.engine,
            index=report.index,
            num_embedded=rows.ids.size,
            num_identities=np.unique(rows.first).size,
            num_anchors=num_anchors,
            pairs=self.pairs,
            semi_hard=self.semi_hard,
            band_empty=self.band_empty,
            beyond_search=self.beyond_search,
            suspect=self.suspect,
            suspect_negatives=self.suspect_negatives,
            rows=sum(self.rows_by_kind.values()),
            rows_by_kind=self.rows_by_kind,
            pairs_by_rung=self.pairs_by_rung,
            pairs_without_rows=self.pairs_without_rows,
            over_max_uses=self.over_max_uses,
            d2_ap_histogram=self.d2_ap.tolist(),
            nearest_d2_an_histogram=self.nearest_d2_an.tolist(),
            largest_k=report.largest_k,
            recall_pairs=recall.pairs,
            recall_vs_exact=recall.share,
            num_resolved=report.num_resolved,
            dimension=rows.x.shape[1],
            observed=observed,
            symmetric=report.symmetric,
            undecided_share=report.undecided_share,
            seconds=seconds,
        )


def why_no_rows(stats: Mapping[str, Any]) -> str:
    """Say from the counts of a pass without a row where its pairs went, and what to do.

    Args:
        stats: `MiningStats.to_dict()`, as a generation's manifest holds it.
    """
    return f"no triplet: {where_pairs_went(stats)}"


def where_pairs_went(stats: Mapping[str, Any]) -> str:
    """Say from a pass's counts where its pairs went, and for each kind what to do about it.

    Args:
        stats: as for `why_no_rows`; counts that it lacks are 0.
    """
    pairs = stats.get("pairs", 0)
    if not pairs:
        return "no anchor had a positive (raise miner.anchors, or ingest more photos of a person)"
    parts = [f"{stats[to.name]} {text}" for to, text in _WHERE_PAIRS_GO if stats.get(to.name)]
    if dropped := stats.get("over_max_uses"):
        parts.append(f"{dropped} rows were over miner.max_uses_as_negative (raise it)")
    if skipped := stats.get("suspect_negatives"):
        parts.append(f"{skipped} negatives are under miner.duplicate_floor")
    return f"of {pairs} pairs {', '.join(parts)}"


def histogram(d2: NDArray[np.float32]) -> NDArray[np.int64]:
    """Count (T,) float32 distances in `HISTOGRAM_BINS` equal bins over 0..4, returned as int64."""
    # Rows may be 1e-3 off unit length, so that a d2 may exceed 4 by a little.
    bins = np.minimum((d2.astype(np.float64) / HISTOGRAM_STEP).astype(np.int64), HISTOGRAM_BINS - 1)
    return np.bincount(bins, minlength=HISTOGRAM_BINS)


def useful_gflops(stats: Mapping[str, Any], search_s: float) -> float | None:
    """Return the useful GFLOP/s of an exact search: 2 x anchors x N x D over its seconds.

    What the engine saves or spends beside that is its own affair, so that engines compare.

    Args:
        stats: as for `why_no_rows`.
        search_s: seconds spent in the engine.

    Returns:
        None for an engine that does not look at every row, and where D or the time is not known.
    """
    dimension = stats.get("dimension")
    if stats.get("engine") != "exact" or not dimension or search_s <= 0:
        return None
    return float(2e-9 * stats["num_anchors"] * stats["num_embedded"] * dimension / search_s)
