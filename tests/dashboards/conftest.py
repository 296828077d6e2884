"""The run that every test of the page reads; a test that changes one makes its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from facequarry.datasets.runs.run_dir import RunDir
from tests.dashboards.made_run import make_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A finished run."""
    return make_run(tmp_path_factory.mktemp("dashboards") / "runs")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """An empty folder of runs."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `__main__` back: Streamlit's AppTest leaves its script there, and spawn would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
