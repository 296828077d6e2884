"""The page draws every state of a run; Streamlit's own harness runs it without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from tests.dashboards.made_run import Clock, begin_run, log_step, refresh

TIMEOUT_S = 60.0


def _draw(runs: str, run: str | None) -> None:
    from pathlib import Path

    from facequarry.dashboards.app import page

    page(Path(runs), run)


def open_page(runs: Path, run: str | None = None) -> AppTest:
    return AppTest.from_function(_draw, args=(str(runs), run), default_timeout=TIMEOUT_S).run()


def captions(page: AppTest) -> str:
    return " ".join(caption.value for caption in page.caption)


def test_a_finished_run_is_drawn_whole(made: RunDir) -> None:
    page = open_page(made.root.parent)
    assert not page.exception and not page.error and not page.warning
    assert [header.value for header in page.subheader] == [
        "Mined triplets",
        "Verification on identities that were not trained on",
    ]
    assert len(page.metric) == 8
    assert "Waits" not in captions(page)


def test_browsing_turns_pages_and_a_new_choice_begins_at_the_first(made: RunDir) -> None:
    page = open_page(made.root.parent)
    assert "page 1 of" in shown(page)
    page.button[1].click().run()
    assert "page 2 of" in shown(page)
    generation = next(box for box in page.selectbox if box.label == "Generation")
    generation.select(0).run()
    assert not page.exception
    assert "page 1 of" in shown(page)


def shown(page: AppTest) -> str:
    return " ".join(element.proto.body for element in page.get("html"))


def test_a_new_run_says_what_it_waits_for(runs: Path) -> None:
    begin_run(runs, "new")
    page = open_page(runs)
    assert not page.exception and not page.error
    for what in ("first training step", "first refresh", "first generation", "evaluation"):
        assert what in captions(page)


def test_without_runs_the_page_names_the_folder(runs: Path) -> None:
    page = open_page(runs)
    assert not page.exception
    assert str(runs) in page.info[0].value


def test_a_run_in_the_middle_is_drawn(runs: Path) -> None:
    run = begin_run(runs, "going")
    clock = Clock()
    refresh(run, 0, EventLog(run.events, "miner", attempt=1, clock=clock), clock)
    log_step(EventLog(run.events, "trainer", attempt=1, clock=clock), 0)
    page = open_page(runs)
    assert not page.exception
    # Its faces were never made: the sentence says so and the rest of the page stands.
    assert "no snapshot of faces" in page.info[0].value
    assert "evaluation" in captions(page)


@pytest.mark.parametrize("text", ["{", '{"schema_version": 99}'])
def test_a_configuration_that_cannot_be_read_is_one_sentence(runs: Path, text: str) -> None:
    run = begin_run(runs, "broken")
    run.config.write_text(text)
    page = open_page(runs)
    assert not page.exception
    assert "config.json" in page.error[0].value


def test_a_damaged_line_is_one_sentence(runs: Path) -> None:
    run = begin_run(runs, "broken")
    run.events.mkdir()
    (run.events / "trainer.jsonl").write_text('{"event": "step", "time": 1}\n')
    page = open_page(runs)
    assert not page.exception
    assert page.error[0].value == "a file lacks 'attempt'"


def test_the_run_that_is_asked_for_is_shown_and_unknown_ones_are_not(made: RunDir) -> None:
    runs = made.root.parent
    for asked in ("made", "../made", "absent"):
        page = open_page(runs, asked)
        assert not page.exception
        assert page.selectbox[0].value == "made"
