from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from datasets.config import IngestConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("detector", "haar"),
        ("upsample", 3),
        ("crop_px", 8),
        ("margin_px", 81),
        ("max_photo_mpx", 0),
        ("photos_per_shard", 0),
        ("actors", 0),
        ("shard_timeout_s", 0.0),
        ("shard_timeout_s", float("nan")),
    ],
)
def test_value_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field} is "):
        IngestConfig(**{field: value})


def test_margin_keeps_facenets_proportion() -> None:
    assert IngestConfig().resolved_margin_px == 44
    assert IngestConfig(crop_px=64).resolved_margin_px == 18
    assert IngestConfig(crop_px=64, margin_px=3).resolved_margin_px == 3
    assert IngestConfig(detector="none").resolved_margin_px == 0


def test_config_imports_nothing_heavy() -> None:
    code = (
        "import sys, datasets.config; "
        "print([name for name in ('ray', 'dlib', 'cv2', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
