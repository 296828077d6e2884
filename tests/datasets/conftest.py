"""Photos that several files of tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets.photos import write_bad_photos, write_tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of 15 good photos of three people and 5 bad ones."""
    source = write_tree(tmp_path / "photos", {"a": 6, "b": 8, "c": 1})
    write_bad_photos(source / "b")
    return source
