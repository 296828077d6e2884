"""A small trained run for the tests of mining: trained once a module, copied for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

import facequarry.miner.engines.exact
from tests.miner.small_run import SmallRun, copied, train_once


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    return train_once(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def small(trained: SmallRun, tmp_path: Path) -> SmallRun:
    return copied(trained, tmp_path)


@pytest.fixture(autouse=True)
def small_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small galleries take the pass that large ones take."""
    monkeypatch.setattr(facequarry.miner.engines.exact, "ONE_SIDED_UP_TO", 0)
