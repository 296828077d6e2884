"""The run that every test of the page reads; a test that changes one makes its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.run_dir import RunDir
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
