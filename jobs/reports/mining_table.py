"""What a mining pass found, as the table that `facequarry mine` prints: all from its manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from facequarry.datasets.runs.vocabulary import (
    KINDS,
    MINE_STAGES,
    OUTCOMES,
    SEARCH,
    STAGES,
    Term,
    label_of,
    names,
)
from facequarry.jobs.pictures.mining_page import seconds_by_stage
from facequarry.miner.selection.observe import Identity
from facequarry.miner.selection.stats import useful_gflops, why_no_rows

_MOST_NAMED = 3


def generation_table(manifest: Mapping[str, Any], name_of: Callable[[Identity], str]) -> Table:
    """Return a generation's facts.

    Args:
        manifest: of the generation.
        name_of: turns an identity of the manifest into what people call it.
    """
    facts = [
        ("mined at step", str(manifest["mined_at_step"])),
        ("snapshot of the faces", str(manifest["snapshot"])),
        ("embedded on", manifest["config"]["device"]),
        *mining_rows(manifest, name_of),
    ]
    return as_table(f"Generation {manifest['generation']}", facts)


def as_table(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    """Return named facts as a table for the terminal."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows:
        # As they are: a name in brackets is no markup of ours.
        table.add_row(name, value.replace("[", r"\["))
    return table


def mining_rows(
    manifest: Mapping[str, Any],
    name_of: Callable[[Identity], str],
    *,
    item: str = "face",
    labels: str = "identities",
) -> list[tuple[str, str]]:
    """Return what any pass found, row by row, as a name and a value.

    Args:
        manifest: with `config`, `stats`, `rows` and `timing`.
        name_of: as for `generation_table`.
        item: what an embedding is of.
        labels: what tells the items apart.
    """
    stats, timing = manifest["stats"], manifest["timing"]
    rows = [
        (f"{item}s, {labels}", f"{stats['num_embedded']:,}, {stats['num_identities']:,}"),
        ("engine", _engine(stats)),
        ("anchors, pairs", f"{stats['num_anchors']:,}, {stats['pairs']:,}"),
    ]
    rows += [(f"{outcome.label} pairs", _share(stats, outcome.name)) for outcome in OUTCOMES]
    if stats["recall_vs_exact"] is not None:
        rows.append(("recall against exact", f"{stats['recall_vs_exact']:.3f}"))
    rows.append(("triplets", f"{manifest['rows']:,}: {_counts(stats['rows_by_kind'])}"))
    if stats["pairs_by_rung"]:
        rows.append(
            (
                "pairs served by rung",
                _counts(stats["pairs_by_rung"], manifest["config"]["fallback"]),
            )
        )
    if not manifest["rows"]:
        rows.append(("", why_no_rows(stats)))
    rows += _observed_rows(manifest, name_of, item)
    rows.append(("seconds", _seconds(STAGES, manifest)))
    rows.append(("of these, mine", _seconds(MINE_STAGES, manifest)))
    gflops = useful_gflops(stats, timing.get(f"{SEARCH.name}_s", 0.0))
    if gflops is not None:
        rows.append(("useful GFLOP/s of the search", f"{gflops:,.3g}{_how(timing)}"))
    return rows


def _observed_rows(
    manifest: Mapping[str, Any], name_of: Callable[[Identity], str], item: str
) -> list[tuple[str, str]]:
    stats, cap = manifest["stats"], manifest["config"]["max_uses_as_negative"]
    rows = []
    if cap is not None:
        rows.append(
            ("rows over max uses as negative", f"{stats['over_max_uses']:,} dropped, limit {cap:,}")
        )
    observed = stats.get("observed")
    if not observed or not observed["hubs"]:
        return rows
    unused = stats["num_embedded"] - observed["num_negatives"]
    rows.append(
        (f"{item}s that are a negative", f"{observed['num_negatives']:,}, {unused:,} never")
    )
    hubs = [
        f"{hub['face']} ({name_of(hub['identity'])}) of {hub['anchors']:,} anchors"
        for hub in observed["hubs"][:_MOST_NAMED]
    ]
    rows.append(("negatives of most anchors", "\n".join(hubs)))
    pairs = [
        f"{name_of(pair['identity_a'])} and {name_of(pair['identity_b'])}: {pair['rows']:,} rows"
        for pair in observed["confused"][:_MOST_NAMED]
    ]
    if pairs:
        rows.append(("most confused identities", "\n".join(pairs)))
    return rows


def _engine(stats: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (stats["engine"], stats["index"])))


def _share(stats: Mapping[str, Any], name: str) -> str:
    return f"{stats[name]:,} ({100 * stats[name] / max(stats['pairs'], 1):.1f} %)"


def _counts(counts: Mapping[str, int], order: Iterable[str] = names(KINDS)) -> str:
    # By `order`: a manifest has them in the order of the alphabet.
    return ", ".join(f"{label_of(name)} {counts[name]:,}" for name in order if name in counts)


def _how(timing: Mapping[str, Any]) -> str:
    """Say what the engine did to get there, as far as it says so itself."""
    parts = []
    if timing.get("symmetric"):
        parts.append("each product served both its sides")
    if timing.get("undecided_share") is not None:
        parts.append(f"{100 * timing['undecided_share']:.2f} % recomputed")
    return f" ({', '.join(parts)})" if parts else ""


def _seconds(stages: Sequence[Term], manifest: Mapping[str, Any]) -> str:
    found = seconds_by_stage(stages, manifest)
    return ", ".join(f"{stage.label} {seconds:.1f}" for stage, seconds in found)
