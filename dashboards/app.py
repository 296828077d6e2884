"""The page: one run, live while it goes on and complete when it is over.

Streamlit runs this file from top to bottom for every visitor; `dashboards.server` starts it.

    python -m streamlit run dashboards/app.py -- runs --run demo-1
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path

import streamlit as st

from facequarry.dashboards import sections
from facequarry.dashboards.drawing import cards
from facequarry.dashboards.facts.read import RunFacts, list_runs, read_run, signature
from facequarry.datasets.runs.record import UNREADABLE, what_is_wrong

_LIVE_EVERY_S = 2.0
# Streamlit mounts a changed plotly figure anew, which blinks: figures follow at a calmer pace.
_FIGURES_EVERY_S = 8.0
_IDLE_EVERY_S = 10.0


def page(runs: Path, first: str | None) -> None:
    """Draw the page.

    Args:
        runs: folder of all runs.
        first: run to show where the address names none; None takes the one started last.
    """
    st.set_page_config(page_title="FaceQuarry", layout="wide")
    st.html(cards.STYLE)
    title, choice = st.columns([3, 1], vertical_alignment="bottom")
    title.html('<div class="fq-title">FaceQuarry <small>training and mining</small></div>')
    names = list_runs(runs)
    if not names:
        st.info(f"Waits for the first run: no folder with a config.json under {runs}.")
        _watch(runs, names)
        return
    with choice:
        root = runs / _chosen(names, first)
    try:
        facts = _facts(root)
    except UNREADABLE as error:
        st.error(what_is_wrong(error))
        return
    is_live = facts.is_alive
    every_s = _LIVE_EVERY_S if is_live else _IDLE_EVERY_S
    st.fragment(_live, run_every=every_s)(runs, names, root, _shown(facts))
    st.fragment(_figures, run_every=_FIGURES_EVERY_S if is_live else None)(root)
    st.fragment(sections.mining)(facts)
    sections.verification(facts)


def _chosen(names: list[str], first: str | None) -> str:
    """Let the reader choose a run; the address keeps the choice, so that it can be sent around."""
    wanted = st.query_params.get("run", first)
    index = names.index(wanted) if wanted in names else 0
    name = st.selectbox("Run", names, index=index, label_visibility="collapsed")
    st.query_params["run"] = name
    return name


def _live(runs: Path, names: list[str], root: Path, shown: object) -> None:
    """Draw the headline; draw the whole page anew where more than that has changed."""
    try:
        facts = _facts(root)
    except UNREADABLE as error:
        st.error(what_is_wrong(error))
        return
    if _shown(facts) != shown or list_runs(runs) != names:
        st.rerun()
    st.html(cards.heading(facts))
    sections.headline(facts)


def _figures(root: Path) -> None:
    # What is wrong with a run that cannot be read is said above.
    with contextlib.suppress(*UNREADABLE):
        sections.training(_facts(root))


@st.fragment(run_every=_LIVE_EVERY_S)
def _watch(runs: Path, names: list[str]) -> None:
    if list_runs(runs) != names:
        st.rerun()


def _shown(facts: RunFacts) -> object:
    """Return what the parts of the page that do not refresh by themselves depend on."""
    evaluated = tuple(evaluation["step"] for evaluation in facts.evaluations)
    return facts.generations, evaluated, facts.state, len(facts.steps) > 0


def _facts(root: Path) -> RunFacts:
    # A run falls silent without a change on disk, hence the clock in the key.
    return _read(root, signature(root), int(time.time() // _IDLE_EVERY_S))


@st.cache_resource(max_entries=4, show_spinner=False)
def _read(root: Path, signature: object, now: int) -> RunFacts:
    return read_run(root)


def _arguments(arguments: list[str]) -> tuple[Path, str | None]:
    parser = argparse.ArgumentParser(description="The FaceQuarry page; started by Streamlit.")
    parser.add_argument("runs", type=Path, help="folder of all runs")
    parser.add_argument("--run", help="run to show first")
    parsed = parser.parse_args(arguments)
    return parsed.runs, parsed.run


if __name__ == "__main__":
    page(*_arguments(sys.argv[1:]))
