"""What a generation looks like: one page of six panels, drawn from manifests alone.

    mining_page([manifest], Path("mining.png"), title="Mined pairs")

The distances with the band, where the pairs went, what the rows are, which identities are taken for
each other, how often a face serves as negative, and where the time went.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.runs.vocabulary import (
    BLUE,
    GREEN,
    GREY,
    INK,
    KINDS,
    MINE,
    MINE_STAGES,
    ORANGE,
    OUTCOMES,
    RECALL,
    SEARCH,
    STAGES,
    Term,
)
from facequarry.miner.selection.observe import Identity
from facequarry.miner.selection.stats import useful_gflops
from facequarry.trainer.evaluation.figure import new_axes, new_figure, plain, publish_figure, stairs

Manifest = Mapping[str, Any]

_MOST_GENERATIONS = 40
_MOST_CONFUSED = 12


def seconds_by_stage(
    stages: Iterable[Term], manifest: Mapping[str, Any]
) -> list[tuple[Term, float]]:
    """Return what a manifest says of some stages, in their order, those left out that had no work.

    Args:
        stages: of `vocabulary`.
        manifest: with `stats` and `timing`.
    """
    timing, stats = manifest["timing"], manifest["stats"]
    # Recall is measured where the engine may miss rows.
    idle = {RECALL: stats["recall_vs_exact"] is None}
    return [
        (stage, timing[f"{stage.name}_s"])
        for stage in stages
        if f"{stage.name}_s" in timing and not idle.get(stage)
    ]


def mining_page(
    manifests: Sequence[Manifest],
    path: Path,
    *,
    title: str,
    name_of: Callable[[Identity], str] = str,
    item: str = "face",
) -> None:
    """Draw the newest of these generations, and what changed over them.

    Args:
        manifests: of generations, ascending; the last one is shown. One is enough.
        path: the PNG to publish.
        title: above the page.
        name_of: turns an identity of the manifest into what people call it.
        item: what an embedding is of.

    Raises:
        BadInput: there is no manifest.
    """
    if not manifests:
        raise BadInput("a page of mining needs at least one manifest")
    manifests = manifests[-_MOST_GENERATIONS:]
    newest = manifests[-1]
    stats, config = newest["stats"], newest["config"]
    figure = new_figure(16, 9.6)
    figure.suptitle(title, color=INK, fontsize=14)
    # A figure each: long names beside one panel leave the others their width.
    grid = figure.subfigures(2, 3, wspace=0.02, hspace=0.02, squeeze=False)
    cells = iter(grid.flat)

    def panel(heading: str) -> Axes:
        return new_axes(next(cells), heading, "", "")

    draw_distances(
        panel("Distances and the band"),
        stats["d2_ap_histogram"],
        stats["nearest_d2_an_histogram"],
        config["margin"],
    )
    pairs = [manifest["stats"] for manifest in manifests]
    _draw_over_time(panel("Where the pairs went"), manifests, pairs, OUTCOMES, "pairs")
    rows = [manifest["stats"]["rows_by_kind"] for manifest in manifests]
    _draw_over_time(panel("What the triplets are"), manifests, rows, KINDS, "triplets")
    _draw_uses(panel(f"Uses of one {item} as negative"), stats, config, item)
    _draw_confused(panel("Most confused identities"), stats, name_of)
    _draw_seconds(panel("Where the time went"), newest)
    publish_figure(figure, path, legend=False)


def draw_distances(axes: Axes, d2_ap: Sequence[int], d2_an: Sequence[int], margin: float) -> None:
    """Draw where positives and nearest negatives lie, and the band of the median pair.

    Args:
        axes: where to.
        d2_ap: (M,) pairs by d2 of anchor and positive, equal bins over 0..4.
        d2_an: (M,) anchors by d2 to their nearest negative, same bins.
        margin: width of the band, squared L2.
    """
    positives, negatives = np.asarray(d2_ap, float), np.asarray(d2_an, float)
    edges = np.linspace(0, 4, positives.size + 1)
    used = np.flatnonzero(positives + negatives)
    if not used.size or not positives.sum():
        _say(axes, "no pair was looked at")
        return
    below = np.concatenate([[0], np.cumsum(positives)]) / positives.sum()
    median = float(np.interp(0.5, below, edges))
    label = f"median pair's band: {median:.2f} to {median + margin:.2f}"
    axes.axvspan(
        median, median + margin, color=GREEN, alpha=0.22, linewidth=0, zorder=0.5, label=label
    )
    tallest = stairs(axes, positives, edges, BLUE, "positive (pairs)")
    if negatives.sum():
        negative = "nearest negative (anchors)"
        tallest = max(tallest, stairs(axes, negatives, edges, ORANGE, negative))
    axes.set_xlim(max(0.0, edges[used[0]] - margin), edges[used[-1] + 1] + margin)
    axes.set(xlabel="d2 (squared L2)", ylabel="share", ylim=(0, 1.1 * tallest))
    _legend(axes)


def _draw_over_time(
    axes: Axes,
    manifests: Sequence[Manifest],
    counts: Sequence[Mapping[str, int]],
    kinds: Sequence[Term],
    what: str,
) -> None:
    """Draw counts of one generation as bars, or shares of several as stacked bars over them."""
    shown = [kind for kind in kinds if any(count.get(kind.name) for count in counts)]
    if not shown:
        _say(axes, f"no {what}")
    elif len(manifests) == 1:
        _draw_bars(
            axes,
            [kind.label for kind in shown],
            [counts[0][kind.name] for kind in shown],
            [kind.color for kind in shown],
            what,
        )
    else:
        numbers = [manifest["generation"] for manifest in manifests]
        totals = np.array([max(sum(count[kind.name] for kind in shown), 1) for count in counts])
        below = np.zeros(len(counts))
        for kind in shown:
            shares = np.array([count[kind.name] for count in counts]) / totals
            label = f"{kind.label} ({counts[-1][kind.name]:,} in the newest)"
            axes.bar(numbers, shares, bottom=below, color=kind.color, alpha=0.75, label=label)
            below += shares
        axes.set(xlabel="generation", ylabel=f"share of {what}", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axes)


def _draw_bars(
    axes: Axes, names: Sequence[str], counts: Sequence[int], colors: Sequence[str], what: str
) -> None:
    total = sum(counts)
    places = np.arange(len(names))
    axes.barh(places, counts, color=colors, alpha=0.75, height=0.6)
    for place, count in enumerate(counts):
        axes.text(count, place, f" {count:,} ({100 * count / total:.1f} %)", va="center", color=INK)
    axes.set_yticks(places, labels=names)
    axes.set(xlabel=f"{what} (log)", xscale="log", xlim=(0.5, 40 * max(counts)), ylim=(3.6, -0.6))


def _draw_uses(axes: Axes, stats: Mapping[str, Any], config: Mapping[str, Any], item: str) -> None:
    observed = stats.get("observed")
    if not observed or not observed["num_negatives"]:
        _say(axes, f"no {item} is a negative")
        return
    faces = observed["rows_by_uses"]
    places = np.arange(len(faces))
    axes.bar(places, faces, color=BLUE, alpha=0.75, width=0.96)
    # A bar stands over its numbers of triplets, each tick where its number begins.
    axes.set_xticks(places - 0.5, labels=[f"{2**place:,}" for place in places.tolist()])
    top = observed["hubs"][0]
    unused = stats["num_embedded"] - observed["num_negatives"]
    axes.set_xlabel(
        f"triplets that name the {item} as negative\n"
        f"{unused:,} of {stats['num_embedded']:,} {item}s are never named\n"
        f"{item} {top['face']} is the negative of {top['anchors']:,} anchors",
        color=INK,
    )
    axes.set(ylabel=f"{item}s (log)", yscale="log", ylim=(0.5, 2 * max(faces)))
    cap = config["max_uses_as_negative"]
    if cap is not None:
        label = f"max_uses_as_negative {cap:,}: {stats['over_max_uses']:,} triplets dropped"
        # Where the bar that ends at the cap would end.
        axes.axvline(np.log2(cap + 1) - 0.5, color=ORANGE, linestyle="--", label=label)
        axes.set_xlim(-0.7, max(len(faces), np.log2(cap + 1)) - 0.4)
        _legend(axes)


def _draw_confused(
    axes: Axes, stats: Mapping[str, Any], name_of: Callable[[Identity], str]
) -> None:
    observed = stats.get("observed")
    if not observed or not observed["confused"]:
        _say(axes, "no two identities are")
        return
    pairs = observed["confused"][:_MOST_CONFUSED]
    places = np.arange(len(pairs))
    from_a = np.array([pair["rows_from_a"] for pair in pairs])
    rows = np.array([pair["rows"] for pair in pairs])
    axes.barh(places, from_a, color=BLUE, alpha=0.75, label="anchor of the first")
    axes.barh(
        places, rows - from_a, left=from_a, color=ORANGE, alpha=0.75, label="anchor of the second"
    )
    names = [
        f"{plain(name_of(pair['identity_a']), 16)} / {plain(name_of(pair['identity_b']), 16)}"
        for pair in pairs
    ]
    axes.set_yticks(places)
    for label, name in zip(axes.set_yticklabels(names), names, strict=True):
        label.set(parse_math=False, text=name, fontsize=8)
    axes.set_ylim(max(len(pairs), 4) - 0.4, -0.6)
    axes.set_xlabel(f"triplets ({observed['num_confused']:,} pairs of identities share them)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)


def _draw_seconds(axes: Axes, manifest: Manifest) -> None:
    parts = {MINE: MINE_STAGES}
    shown = seconds_by_stage(
        (part for stage in STAGES for part in parts.get(stage, (stage,))), manifest
    )
    if not shown:
        _say(axes, "not measured")
        return
    places = np.arange(len(shown))
    seconds = [spent for _, spent in shown]
    axes.barh(places, seconds, color=[stage.color for stage, _ in shown], alpha=0.75, height=0.6)
    for place, spent in enumerate(seconds):
        text = f" {spent:,.{2 if spent >= 0.1 else 4}f} s"
        axes.text(spent, place, text, va="center", color=INK)
    axes.set_yticks(places, labels=[stage.label for stage, _ in shown])
    # The longest bar leaves room for its figure.
    axes.set_xlim(0, 1.4 * max(*seconds, 1e-9))
    gflops = useful_gflops(manifest["stats"], dict(shown).get(SEARCH, 0.0))
    rate = "" if gflops is None else f"\nthe search did {gflops:,.3g} useful GFLOP/s"
    axes.set_xlabel(f"seconds{rate}", color=INK)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legend(axes: Axes) -> None:
    # Under the axes, where it hides nothing.
    axes.figure.legend(
        loc="outside lower center", ncols=2, fontsize=9, labelcolor=INK, frameon=False
    )


def _say(axes: Axes, sentence: str) -> None:
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set(xticks=[], yticks=[])
