"""The page of a generation and the sheet of suspects show what the manifest says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

import facequarry.jobs.pictures.mining_page
from facequarry.datasets.runs.vocabulary import (
    CHOOSE,
    EMBED,
    KINDS,
    MINE,
    MINE_STAGES,
    OUTCOMES,
    PUBLISH,
    REFRESH_STAGES,
    names,
)
from facequarry.jobs.pictures.mining_page import mining_page
from facequarry.jobs.pictures.suspect_sheet import (
    MOST_SHOWN,
    Suspect,
    SuspectPicture,
    suspect_sheet,
    worst_suspects,
)
from facequarry.miner import MinerConfig, mine
from facequarry.miner.selection.observe import observe
from facequarry.miner.selection.stats import useful_gflops
from tests.miner.inputs import separated

CONFIG = MinerConfig(threads=1, fallback=("easy",), max_uses_as_negative=3, positive_cap=1.2)
CROP = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    x, identities = separated(num_identities=12, faces=5, dimension=16, noise=0.8)
    labels = [["$x_1$", "李四", "[b]", "a" * 200][i % 4] + str(i) for i in identities]
    mined = mine(x, labels, config=CONFIG)
    stats = replace(mined.stats, dimension=16, observed=observe(mined.table, labels))
    return {
        "generation": 3,
        "rows": stats.rows,
        "config": asdict(CONFIG),
        "stats": stats.to_dict(),
        "timing": {"embed_s": 2.0, "search_s": 1e-3, "select_s": 0.5, "recall_s": 1e-6},
    }


def drawn(
    manifests: Sequence[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch, **told: Any
) -> dict[str, Any]:
    """Return the panels of a page by their title."""
    figures: list[Figure] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            facequarry.jobs.pictures.mining_page,
            "publish_figure",
            lambda figure, _, **__: figures.append(figure),
        )
        mining_page(manifests, Path("unused"), title="t", **told)
    (figure,) = figures
    return {axes.get_title(loc="left"): axes for axes in figure.get_axes()}


def is_blank(path: Path) -> bool:
    pixels = imread(path)
    return bool((pixels == pixels[0, 0]).all())


@pytest.mark.parametrize("count", [1, 3])
def test_the_page_is_a_picture_that_is_not_blank(
    manifest: dict[str, Any], tmp_path: Path, count: int
) -> None:
    history = [{**manifest, "generation": number} for number in range(count)]
    mining_page(history, tmp_path / "mining.png", title="Generation")
    assert imread(tmp_path / "mining.png").shape[:2] == (1440, 2400)
    assert not is_blank(tmp_path / "mining.png")


def test_bars_are_the_counts_of_the_only_generation(
    manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    panels, stats = drawn([manifest], monkeypatch), manifest["stats"]
    for title, counts, kinds in (
        ("Where the pairs went", stats, OUTCOMES),
        ("What the triplets are", stats["rows_by_kind"], KINDS),
    ):
        widths = [bar.get_width() for bar in panels[title].patches]
        assert widths == [counts[kind.name] for kind in kinds if counts[kind.name]]
    heights = [bar.get_height() for bar in panels["Uses of one face as negative"].patches]
    assert heights == stats["observed"]["rows_by_uses"]
    assert panels["Uses of one face as negative"].get_yscale() == "log"


def test_shares_over_generations_add_up(
    manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    history = [{**manifest, "generation": number} for number in (4, 7)]
    panels = drawn(history, monkeypatch)
    for title in ("Where the pairs went", "What the triplets are"):
        tops: dict[float, float] = {}
        for bar in panels[title].patches:
            middle = bar.get_x() + bar.get_width() / 2
            tops[middle] = max(tops.get(middle, 0.0), bar.get_y() + bar.get_height())
        assert tops == pytest.approx({4: 1, 7: 1})


def test_the_band_of_the_median_pair_is_shaded(
    manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    histogram = [0] * 80
    histogram[20] = 4  # all between 1 and 1.05
    stats = {**manifest["stats"], "d2_ap_histogram": histogram}
    band = drawn([{**manifest, "stats": stats}], monkeypatch)["Distances and the band"].patches[0]
    assert (band.get_x(), band.get_width()) == pytest.approx((1.025, CONFIG.margin))


def test_the_cap_stands_where_its_bar_would_end(
    manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = drawn([manifest], monkeypatch)["Uses of one face as negative"]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(1.5)  # the bar of 2 to 3
    assert "max_uses_as_negative 3" in axes.lines[0].get_label()


def test_identities_have_the_names_that_people_know(
    manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    panels = drawn([manifest], monkeypatch, name_of=lambda identity: f"<{identity}"[:3])
    labels = [label.get_text() for label in panels["Most confused identities"].get_yticklabels()]
    assert labels and all(label.startswith("<") for label in labels)


def test_the_time_goes_to_every_stage_that_a_manifest_measured(
    manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # All that a refresh's manifest holds: it is written before it is published.
    stages = [stage for stage in (*REFRESH_STAGES, *MINE_STAGES) if stage != PUBLISH]
    timing = {f"{stage.name}_s": 1.0 + place for place, stage in enumerate(stages)}
    stats = {**manifest["stats"], "recall_vs_exact": 0.5}
    full = {**manifest, "stats": stats, "timing": timing}
    axes = drawn([full], monkeypatch)["Where the time went"]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert set(labels) == {stage.label for stage in stages if stage != MINE}
    assert labels.index(CHOOSE.label) == labels.index(EMBED.label) - 1
    assert sum(bar.get_width() for bar in axes.patches) == sum(timing.values()) - timing["mine_s"]


@pytest.mark.parametrize("longest", ["choose", "search"])
def test_figures_beside_the_longest_bar_stay_inside_their_panel(
    manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch, longest: str
) -> None:
    timing = {**manifest["timing"], "choose_s": 0.25, f"{longest}_s": 123456.789}
    axes = drawn([{**manifest, "timing": timing}], monkeypatch)["Where the time went"]
    figure = axes.get_figure(root=True)
    figure.canvas.draw()
    inside = axes.get_window_extent()
    assert len(axes.texts) == 4
    assert all(text.get_window_extent().x1 < inside.x1 for text in axes.texts)
    for label in (*axes.get_yticklabels(), axes.xaxis.label):
        assert label.get_window_extent().x0 > axes.get_figure(root=False).bbox.x0
        assert label.get_window_extent().x1 < figure.bbox.x1


def test_a_pass_that_found_nothing_has_a_page(manifest: dict[str, Any], tmp_path: Path) -> None:
    stats = {
        **manifest["stats"],
        **dict.fromkeys(("pairs", *names(OUTCOMES), "rows"), 0),
        "rows_by_kind": dict.fromkeys(names(KINDS), 0),
        "d2_ap_histogram": [0] * 80,
        "nearest_d2_an_histogram": [0] * 80,
        "observed": None,
    }
    mining_page(
        [{**manifest, "stats": stats, "timing": {}}], tmp_path / "mining.png", title="Nothing"
    )
    assert not is_blank(tmp_path / "mining.png")
    with pytest.raises(ValueError, match="at least one manifest"):
        mining_page([], tmp_path / "none.png", title="None")


def test_useful_gflops_count_two_operations_a_value() -> None:
    stats = {"engine": "exact", "num_anchors": 1000, "num_embedded": 2000, "dimension": 128}
    assert useful_gflops(stats, 0.5) == pytest.approx(2 * 1000 * 2000 * 128 / 0.5 / 1e9)
    assert useful_gflops({**stats, "engine": "faiss"}, 0.5) is None
    assert useful_gflops({**stats, "dimension": None}, 0.5) is None
    assert useful_gflops(stats, 0.0) is None


def suspects(*rows: tuple[str, int, int, float]) -> pa.Table:
    reason, face_a, face_b, d2 = zip(*sorted(rows), strict=True) if rows else ((),) * 4
    return pa.table(
        {
            "reason": pa.array(reason, pa.string()),
            "face_a": pa.array(face_a, pa.int64()),
            "face_b": pa.array(face_b, pa.int64()),
            "d2": pa.array(d2, pa.float32()),
        }
    )


EACH_ITS_OWN = np.arange(200)
FLOOR, CAP = "under_duplicate_floor", "over_positive_cap"


def test_the_worst_suspects_come_first() -> None:
    table = suspects((CAP, 0, 1, 1.5), (CAP, 2, 3, 1.75), (FLOOR, 4, 5, 0.25), (FLOOR, 6, 7, 0.125))
    found = worst_suspects(table, EACH_ITS_OWN)
    assert [(s.reason, s.face_a, s.d2) for s in found] == [
        (FLOOR, 6, 0.125),
        (FLOOR, 4, 0.25),
        (CAP, 2, 1.75),
        (CAP, 0, 1.5),
    ]


def test_a_face_far_from_all_of_its_identity_takes_one_place() -> None:
    table = suspects((CAP, 0, 9, 1.5), (CAP, 1, 9, 1.75), (CAP, 2, 9, 1.25), (CAP, 3, 4, 1.125))
    first, second = worst_suspects(table, EACH_ITS_OWN)
    assert (first.face_a, first.face_b, first.others) == (1, 9, 2)
    assert (second.face_a, second.face_b, second.others) == (3, 4, 0)


@pytest.mark.parametrize(("floor", "cap"), [(100, 100), (3, 100), (100, 3), (0, 100), (2, 3)])
def test_a_sheet_is_bounded_and_shared_by_the_reasons(floor: int, cap: int) -> None:
    rows = [(FLOOR, 2 * i, 2 * i + 1, 0.1) for i in range(floor)]
    rows += [(CAP, 2 * i, 2 * i + 1, 1.5) for i in range(cap)]
    found = [suspect.reason for suspect in worst_suspects(suspects(*rows), EACH_ITS_OWN)]
    half = MOST_SHOWN // 2
    assert len(found) == min(MOST_SHOWN, floor + cap)
    assert found.count(FLOOR) == min(floor, max(half, MOST_SHOWN - cap))


def test_an_identity_takes_three_places() -> None:
    rows = [(CAP, 2 * i, 2 * i + 1, 2 - i / 16) for i in range(8)]
    found = worst_suspects(suspects(*rows), np.array([0] * 10 + [1] * 6))
    assert [suspect.face_a for suspect in found] == [0, 2, 4, 10, 12, 14]


def test_no_suspects_are_no_places() -> None:
    assert worst_suspects(suspects(), EACH_ITS_OWN) == []


@pytest.mark.parametrize("reasons", [(FLOOR,), (CAP,) * 7, (FLOOR,) * 6 + (CAP,)])
def test_a_sheet_is_a_picture_of_its_pairs(reasons: tuple[str, ...], tmp_path: Path) -> None:
    pictures = [
        SuspectPicture(
            suspect=Suspect(reason=reason, face_a=1, face_b=2, d2=0.5, others=3),
            crops=(CROP, CROP),
            names=("$x$", "李四" * 30),
            sources=("a/b/" + "c" * 90 + ".jpg", "d.jpg"),
        )
        for reason in reasons
    ]
    suspect_sheet(pictures, tmp_path / "suspects.png", title="Suspects")
    assert not is_blank(tmp_path / "suspects.png")


def test_a_sheet_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one suspect"):
        suspect_sheet([], tmp_path / "suspects.png", title="Suspects")
    assert list(tmp_path.iterdir()) == []
