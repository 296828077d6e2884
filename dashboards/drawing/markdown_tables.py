"""Small tables as Markdown: counts of a generation, figures of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from facequarry.dashboards.facts.browse import TripletBook
from facequarry.datasets.runs.vocabulary import KINDS, OUTCOMES

_MOST_NAMED = 3
_COUNTS = {
    "pairs": "pairs looked at",
    **{outcome.name: f"pairs, {outcome.label}" for outcome in OUTCOMES},
    "rows": "triplets",
    "num_embedded": "faces embedded",
    "num_anchors": "anchors",
}


def counts(generation: TripletBook) -> str:
    """Return what the miner counted in a generation."""
    stats = generation.stats
    lines = [
        (word, f"{stats[name]:,}") for name, word in _COUNTS.items() if stats.get(name) is not None
    ]
    by_kind = stats.get("rows_by_kind", {})
    kinds = [kind for kind in KINDS if by_kind.get(kind.name)]
    if len(kinds) > 1:
        lines += [(f"triplets, {kind.label}", f"{by_kind[kind.name]:,}") for kind in kinds]
    engine = stats.get("index") or stats.get("engine")
    if engine:
        lines.append(("engine", engine))
    if stats.get("recall_vs_exact") is not None:
        lines.append(("recall against exact", f"{stats['recall_vs_exact']:.3f}"))
    lines.append(("mined at step", f"{generation.mined_at_step:,}"))
    return _table(["", "count"], [[word, value] for word, value in lines])


def observed(generation: TripletBook, identities: Sequence[str]) -> str:
    """Return the faces that are negative most often and the identities most often confused.

    Args:
        generation: what to look at.
        identities: names by identity_index; where they are gone the index stands for the name.

    Returns:
        An empty text for a generation that nobody looked at.
    """
    found = generation.stats.get("observed")
    if not found or not found["hubs"]:
        return ""

    def name(index: int) -> str:
        # A bar would end the cell.
        return identities[index].replace("|", "\\|") if index < len(identities) else str(index)

    hubs = [
        [f"face {hub['face']}, {name(hub['identity'])}", f"{hub['anchors']:,}"]
        for hub in found["hubs"][:_MOST_NAMED]
    ]
    confused = [
        [f"{name(pair['identity_a'])} / {name(pair['identity_b'])}", f"{pair['rows']:,}"]
        for pair in found["confused"][:_MOST_NAMED]
    ]
    parts = [_table(["negative of most anchors", "anchors"], hubs)]
    if confused:
        parts.append(_table(["most confused", "triplets"], confused))
    return "\n\n".join(parts)


def verification(evaluations: Sequence[dict[str, Any]]) -> str:
    """Return verification and retrieval figures, a column for each evaluation."""
    first = evaluations[0]["verification"]
    rows = [
        ["AUC", *(_share(e["verification"]["auc"]) for e in evaluations)],
        ["accuracy", *(_share(e["verification"]["accuracy"]) for e in evaluations)],
        ["equal error rate", *(_share(e["verification"]["eer"]) for e in evaluations)],
    ]
    for far in first["tar_at_far"]:
        rates = (e["verification"]["tar_at_far"].get(far) for e in evaluations)
        rows.append([f"TAR at FAR {far}", *map(_share, rates)])
    rows += [
        ["precision@1", *(_share(e["retrieval"]["precision_at_1"]) for e in evaluations)],
        ["MAP@R", *(_share(e["retrieval"]["map_at_r"]) for e in evaluations)],
    ]
    heads = ["", *(f"step {evaluation['step']}" for evaluation in evaluations)]
    return _table(heads, rows)


def evaluated_on(evaluation: dict[str, Any]) -> str:
    """Return in words on what an evaluation was made."""
    counted = evaluation["verification"]
    return (
        f"{evaluation['part'].replace('_', '-')}: {evaluation['identities']:,} identities, "
        f"{evaluation['faces']:,} faces; {counted['num_same']:,} same and "
        f"{counted['num_different']:,} different pairs"
    )


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))
