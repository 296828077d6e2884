"""Figures hold the numbers they were given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from facequarry.dashboards.drawing import markdown_tables as tables
from facequarry.dashboards.drawing import mining_panels
from facequarry.dashboards.drawing import training_panels as panels
from facequarry.dashboards.drawing.look import MOST_POINTS, running_mean, thin
from facequarry.dashboards.facts.browse import TripletBook, read_generation
from facequarry.dashboards.facts.headline import tiles
from facequarry.dashboards.facts.read import read_run
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.datasets.runs.vocabulary import RED
from tests.dashboards.made_run import EVERY, FACES, STEPS, begin_run


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_loss_has_every_step_and_the_takeovers(made: RunDir) -> None:
    figure = panels.loss(read_run(made.root).steps, [0, 24, 44], STEPS)
    step = traces(figure)["step"]
    assert list(step.x) == list(range(STEPS))
    assert np.allclose(step.y, 0.2 - 0.002 * np.arange(STEPS))
    assert [shape.x0 for shape in figure.layout.shapes] == [0, 24, 44]
    assert "new triplets take over" in traces(figure)


def test_staleness_is_drawn_against_interval_and_bound(made: RunDir) -> None:
    by_name = traces(panels.staleness(read_run(made.root).steps, EVERY, 30, STEPS))
    assert max(by_name["step − mined_at_step"].y) == 23
    assert list(by_name["checkpoint every 20"].y) == [20, 20]
    assert list(by_name["bound 30"].y) == [30, 30]
    assert len(panels.staleness(read_run(made.root).steps, None, None, None).data) == 1


def test_shares_add_up(made: RunDir) -> None:
    by_name = traces(panels.shares(read_run(made.root).steps, STEPS))
    total = sum(np.array(by_name[name].y) for name in ("now hard", "still semi-hard", "now easy"))
    assert np.allclose(total, 1)


def test_the_timeline_shows_consumption_refreshes_and_failures(made: RunDir) -> None:
    facts = read_run(made.root)
    figure = mining_panels.timeline(facts.refreshes, facts.steps, elapsed_s=facts.elapsed_s)
    by_name = traces(figure)
    assert list(by_name["refresh"].y) == ["gen 0 at 0", "gen 1 at 20", "gen 2 at 40"]
    assert np.allclose(by_name["refresh"].x, 1.6 / 60)
    assert np.allclose(np.array(by_name["consumed"].x) * 60, [11.5, 10.0, 8.0])
    assert list(by_name["failed"].y) == ["gen 2 at 40"]
    assert by_name["failed"].marker.color == RED
    assert "disk &lt;full&gt;" in by_name["failed"].customdata[0]


def test_cost_and_pairs_are_those_of_the_refreshes(made: RunDir) -> None:
    mined = [refresh for refresh in read_run(made.root).refreshes if refresh.seconds]
    assert list(traces(mining_panels.cost(mined))["embed"].y) == [1.0, 1.0, 1.0]
    by_name = traces(mining_panels.pairs(mined))
    assert np.allclose(sum(np.array(trace.y) for trace in by_name.values()), 1)
    assert by_name["semi-hard"].customdata[0] == mined[0].counts["semi_hard"]


def test_a_forecast_is_marked_where_there_was_one(made: RunDir) -> None:
    mined = [refresh for refresh in read_run(made.root).refreshes if refresh.seconds]
    assert "forecast" not in traces(mining_panels.cost(mined))
    mined[1:] = [replace(refresh, forecast_s=2.5) for refresh in mined[1:]]
    marks = traces(mining_panels.cost(mined))["forecast"]
    assert (list(marks.x), list(marks.y)) == ([1, 2], [2.5, 2.5])


def test_mining_histograms_have_the_median_pairs_band() -> None:
    edges = np.linspace(0, 4, 5)
    figure = mining_panels.histograms(np.array([0, 4, 0, 0]), np.array([0, 0, 2, 2]), edges, 0.2)
    assert list(figure.data[0].y[:4]) == [0, 1, 0, 0]
    assert list(figure.data[1].y[:4]) == [0, 0, 0.5, 0.5]
    (band,) = figure.layout.shapes
    assert (band.x0, band.x1) == pytest.approx((1.5, 1.7))


def test_verification_is_drawn_before_and_after(made: RunDir) -> None:
    before, after = read_run(made.root).evaluations
    curves = {"before": (before["roc"]["far"], before["roc"]["tar"])}
    assert [trace.name for trace in panels.roc(curves).data] == ["chance", "before"]
    histogram = after["d2_histogram"]
    figure = panels.pair_histograms(histogram, after["verification"]["threshold_d2"])
    same = np.array(histogram["same"])
    assert np.allclose(traces(figure)["same identity"].y[:-1], same / same.sum())


def test_long_runs_are_thinned_and_keep_their_last_step() -> None:
    positions = thin(100_000)
    assert len(positions) == MOST_POINTS and positions[-1] == 99_999
    assert thin(3).tolist() == [0, 1, 2]


def test_the_running_mean_leaves_out_what_is_not_known() -> None:
    mean = running_mean(np.array([np.nan, 1.0, np.nan, 3.0]), 2)
    assert np.isnan(mean[0])
    assert mean[1:].tolist() == [1, 1, 3]


def test_tiles_say_how_the_run_is_doing(made: RunDir) -> None:
    shown = {tile.label: tile for tile in tiles(read_run(made.root))}
    assert (shown["Step"].value, shown["Step"].below) == ("60", "of 60")
    assert (shown["Refreshes"].value, shown["Refreshes"].below) == ("3", "1 failed")
    assert (shown["Staleness"].value, shown["Staleness"].below) == ("19", "steps, max 23 < 46")
    assert (shown["Faces"].value, shown["Faces"].below) == (str(FACES), "10 identities")
    assert (shown["Rejects"].value, shown["Rejects"].tip) == ("2", "no_face 2")


def test_tiles_of_an_empty_run_are_dashes(runs: Path) -> None:
    shown = {tile.label: tile.value for tile in tiles(read_run(begin_run(runs, "new").root))}
    assert shown["Step"] == "0" and shown["Refreshes"] == "0"
    assert {shown[name] for name in ("Loss", "Staleness", "AUC", "Faces", "Rejects")} == {"–"}


def test_tables_hold_counts_and_figures(made: RunDir) -> None:
    generation = read_generation(made.root, 0)
    text = tables.counts(generation)
    assert f"| pairs looked at | {generation.stats['pairs']:,} |" in text
    evaluations = read_run(made.root).evaluations
    lines = tables.verification(evaluations).splitlines()
    assert lines[0] == "|  | step 0 | step 60 |"
    aucs = [evaluation["verification"]["auc"] for evaluation in evaluations]
    assert f"| AUC | {aucs[0]:.3f} | {aucs[1]:.3f} |" in lines
    assert "| TAR at FAR 1e-4 | n/a | n/a |" in lines
    assert tables.evaluated_on(evaluations[0]).startswith("held-out: 4 identities, 32 faces")


def test_hubs_and_confused_identities_have_names() -> None:
    found = {
        "hubs": [{"face": 7, "identity": 1, "anchors": 1234, "rows": 2000}],
        "confused": [{"identity_a": 0, "identity_b": 2, "rows": 9, "rows_from_a": 4}],
    }
    generation = TripletBook(
        number=0,
        mined_at_step=0,
        snapshot=1,
        margin=0.2,
        stats={"observed": found},
        num_suspects=0,
        table=pa.table({}),
    )
    text = tables.observed(generation, ["a|b", "c"])
    assert "| face 7, c | 1,234 |" in text
    assert "| a\\|b / 2 | 9 |" in text
    assert tables.observed(replace(generation, stats={}), []) == ""
