"""The sections of the page, from facts to Streamlit widgets.

Each panel that has nothing to show says in one sentence what it waits for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from facequarry.dashboards.drawing import cards, mining_panels
from facequarry.dashboards.drawing import markdown_tables as tables
from facequarry.dashboards.drawing import training_panels as panels
from facequarry.dashboards.facts.browse import ORDERS, Page, TripletBook, read_generation, read_page
from facequarry.dashboards.facts.headline import tiles
from facequarry.dashboards.facts.read import RunFacts
from facequarry.datasets.faces.snapshots import read_identities

_NEWEST = "newest"


def headline(facts: RunFacts) -> None:
    """Draw the row of figures that say how the run is doing."""
    shown = tiles(facts)
    for column, tile in zip(st.columns(len(shown)), shown, strict=True):
        column.metric(
            tile.label,
            tile.value,
            tile.below,
            delta_color="off",
            delta_arrow="off",
            help=tile.tip,
            border=True,
            height="stretch",
        )


def training(facts: RunFacts) -> None:
    """Draw loss, freshness and the refreshes of a run."""
    steps, refreshes, last = facts.steps, facts.refreshes, facts.settings.steps
    firsts = [r.first_step for r in refreshes if r.first_step is not None]
    has_steps = len(steps) > 0
    is_mined = has_steps and bool(np.isfinite(steps.staleness_steps).any())
    mined = [refresh for refresh in refreshes if refresh.seconds]
    no_step = "Waits for the first training step."
    no_refresh = "Waits for the first refresh: it begins when the checkpoint of step 0 is there."
    if facts.settings.selection != "mined":
        no_refresh = "This run does not train on mined triplets: nothing is mined."
    left, right = st.columns(2)
    with left:
        _panel("Training loss", has_steps, no_step, lambda: panels.loss(steps, firsts, last))
        _panel(
            "Refreshes",
            bool(refreshes),
            no_refresh,
            lambda: mining_panels.timeline(refreshes, steps, elapsed_s=facts.elapsed_s),
        )
    with right:
        _panel(
            "Age of the consumed triplets",
            is_mined,
            "Waits for the first step on mined triplets.",
            lambda: panels.staleness(
                steps, facts.settings.checkpoint_every, facts.staleness_bound_steps, last
            ),
        )
        _panel(
            "Consumed triplets, as the trainer's own forward pass sees them",
            has_steps,
            no_step,
            lambda: panels.shares(steps, last, height=mining_panels.timeline_height(refreshes)),
        )
    left, right = st.columns(2)
    with left:
        wanted = bool(mined)
        _panel("What a refresh takes", wanted, no_refresh, lambda: mining_panels.cost(mined))
    with right:
        _panel("What became of the pairs", wanted, no_refresh, lambda: mining_panels.pairs(mined))


def mining(facts: RunFacts) -> None:
    """Draw one generation: its distances, its counts and its triplets as pictures."""
    st.subheader("Mined triplets")
    if not facts.generations:
        st.caption("Waits for the first generation.")
        return
    choose, order_by, back, place, forward = st.columns(
        [4, 4, 1.2, 1.6, 1.2], vertical_alignment="bottom"
    )
    mined_at = {refresh.generation: refresh.mined_at_step for refresh in facts.refreshes}
    chosen = choose.selectbox(
        "Generation",
        [_NEWEST, *reversed(facts.generations)],
        format_func=lambda number: _generation_name(number, mined_at),
        on_change=_turn_to,
        args=(0,),
    )
    order = order_by.selectbox(
        "Order", list(ORDERS), format_func=lambda key: ORDERS[key], on_change=_turn_to, args=(0,)
    )
    number = chosen if isinstance(chosen, int) else facts.generations[-1]
    try:
        generation = _generation(facts.root, number)
    except (OSError, ValueError) as error:
        st.warning(str(error))
        return
    margin = generation.margin or facts.settings.margin
    page = _page(facts, generation, order)
    if page is not None:
        index = page.index
        for column, word, other in ((back, "previous", index - 1), (forward, "next", index + 1)):
            is_page = 0 <= other < page.num_pages
            column.button(
                word, disabled=not is_page, width="stretch", on_click=_turn_to, args=(other,)
            )
        place.html(f'<div class="fq-place">page {index + 1} of {page.num_pages}</div>')
        for start in range(0, len(page.triplets), 4):
            row = page.triplets[start : start + 4]
            for column, triplet in zip(st.columns(4), row, strict=False):
                column.html(cards.triplet_card(triplet, margin))
    left, right = st.columns([2, 1])
    with left:
        _panel(
            f"Distances in generation {number}",
            bool(generation.d2_ap.sum()),
            "This generation looked at no pair.",
            lambda: mining_panels.histograms(
                generation.d2_ap, generation.nearest_d2_an, generation.d2_edges, margin
            ),
        )
    with right.container(border=True):
        st.markdown(f"**Counts of generation {number}**")
        st.markdown(tables.counts(generation))
        st.markdown(tables.observed(generation, _identities(facts, generation)))


def verification(facts: RunFacts) -> None:
    """Draw how well distances tell people apart, before training and after."""
    st.subheader("Verification on identities that were not trained on")
    if not facts.evaluations:
        st.caption("Waits for the evaluation, which follows the last training step.")
        return
    names = {f"step {e['step']}": e for e in facts.evaluations}
    curves = {name: (e["roc"]["far"], e["roc"]["tar"]) for name, e in names.items()}
    # Ten false accepts or more: below that the figures say n/a.
    least_far = 10 / facts.evaluations[-1]["verification"]["num_different"]
    columns = st.columns(2 + len(names))
    with columns[0]:
        _panel("ROC", True, "", lambda: panels.roc(curves, least_far=least_far))
    for column, (name, evaluation) in zip(columns[1:], names.items(), strict=False):
        with column:
            _panel(f"Pairs at {name}", True, "", _pair_figure(evaluation))
    with columns[-1].container(border=True):
        st.markdown("**Figures**")
        st.markdown(tables.verification(facts.evaluations))
        st.caption(tables.evaluated_on(facts.evaluations[-1]))


def _panel(title: str, has_data: bool, waits_for: str, draw: Callable[[], go.Figure]) -> None:
    with st.container(border=True, gap=None):
        st.markdown(f"**{title}**")
        if has_data:
            st.plotly_chart(draw(), theme=None, key=title, config={"displayModeBar": False})
        else:
            st.caption(waits_for)


def _generation_name(number: int | str, mined_at: dict[int, int]) -> str:
    if isinstance(number, str):
        return "the newest one"
    return f"{number}, mined at step {mined_at[number]}" if number in mined_at else f"{number}"


def _turn_to(index: int) -> None:
    st.session_state["page_of_triplets"] = index


def _page(facts: RunFacts, generation: TripletBook, order: str) -> Page | None:
    """Read the page that is turned to; say why where there is none."""
    index = st.session_state.get("page_of_triplets", 0)
    try:
        page = _read_page(facts.settings.faces, facts.root, generation.number, order, index)
    except (OSError, ValueError, IndexError) as error:
        st.info(f"The faces cannot be shown: {error}")
        return None
    if not page.triplets:
        st.caption("This generation holds no triplet.")
        return None
    return page


@st.cache_resource(max_entries=4, show_spinner=False)
def _generation(root: Path, number: int) -> TripletBook:
    return read_generation(root, number)


@st.cache_resource(max_entries=32, show_spinner=False)
def _read_page(faces: Path, root: Path, number: int, order: str, index: int) -> Page:
    return read_page(_generation(root, number), faces, order=order, index=index)


def _identities(facts: RunFacts, generation: TripletBook) -> list[str]:
    """Return names by identity_index; none where the faces are gone."""
    with contextlib.suppress(OSError, ValueError):
        if generation.snapshot is not None:
            return _read_identities(facts.settings.faces, generation.snapshot)
    return []


@st.cache_resource(max_entries=4, show_spinner=False)
def _read_identities(faces: Path, snapshot: int) -> list[str]:
    return read_identities(faces, snapshot)


def _pair_figure(evaluation: dict[str, Any]) -> Callable[[], go.Figure]:
    threshold = evaluation["verification"]["threshold_d2"]
    return lambda: panels.pair_histograms(evaluation["d2_histogram"], threshold)
