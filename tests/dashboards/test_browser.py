"""The page as a reader sees it: opened once in headless Chromium."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facequarry.dashboards.server import end, start
from facequarry.datasets.disk.lock import WriterLock
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from tests.dashboards.made_run import Clock, log_step, make_run
from tests.dashboards.test_server import free_port, wait_until_healthy

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed; pip install 'facequarry[dev]'"
)

pytestmark = pytest.mark.browser

TIMEOUT_MS = 60_000
QUIET_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium in PATH; try: make setup-system")


@pytest.fixture
def run(runs: Path) -> RunDir:
    """A run of its own: the test lets it go on."""
    return make_run(runs)


@pytest.fixture
def address(run: RunDir) -> Iterator[str]:
    port = free_port()
    server: subprocess.Popen[bytes] = start(run.root.parent, None, host="127.0.0.1", port=port)
    try:
        wait_until_healthy(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(server)


def test_the_page_shows_a_run_and_follows_it(chromium: str, address: str, run: RunDir) -> None:
    elsewhere: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=QUIET_FLAGS)
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 2900})
            page.set_default_timeout(TIMEOUT_MS)
            page.on("request", lambda request: elsewhere.append(request.url))
            page.goto(f"{address}/?run={run.root.name}")
            see_everything(page)
            see_it_go_on(page, run)
            assert page.locator('[data-testid="stException"]').count() == 0
        finally:
            browser.close()
    local = (address, "data:", "blob:")
    # Nobody else learns that somebody looks at faces.
    assert [url for url in elsewhere if not url.startswith(local)] == []


def see_everything(page: Any) -> None:
    expect = playwright.expect
    titles = (
        "Training loss",
        "Age of the consumed triplets",
        "Refreshes",
        "What a refresh takes",
        "What became of the pairs",
        "Distances in generation 2",
        "Counts of generation 2",
        "ROC",
    )
    for title in titles:
        expect(page.get_by_text(title, exact=True).last).to_be_visible(timeout=TIMEOUT_MS)
    for heading in ("Mined triplets", "Verification on identities that were not trained on"):
        expect(page.get_by_role("heading", name=heading)).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.locator(".js-plotly-plot")).to_have_count(10, timeout=TIMEOUT_MS)
    faces = page.locator(".fq-triplet img")
    expect(faces).to_have_count(24, timeout=TIMEOUT_MS)
    assert faces.evaluate_all("images => images.every(image => image.naturalWidth === 32)")


def see_it_go_on(page: Any, run: RunDir) -> None:
    """A second attempt begins: the page follows without being loaded again."""
    with WriterLock(run.driver_lock):
        begin_again(page, run)


def begin_again(page: Any, run: RunDir) -> None:
    clock = Clock()
    EventLog(run.events, "driver", attempt=2).write("start", command="facequarry run --resume")
    trainer = EventLog(run.events, "trainer", attempt=2, clock=clock)
    clock.at_step(80)
    trainer.write("start", step=60, resumed_step=60, world_size=1)
    log_step(trainer, 60)
    step = page.locator('[data-testid="stMetric"]', has_text="Step").first
    playwright.expect(step).to_contain_text("61", timeout=TIMEOUT_MS)
    playwright.expect(page.locator(".fq-state")).to_have_text("evaluating", timeout=TIMEOUT_MS)
