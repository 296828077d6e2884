from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facequarry.datasets.config import IngestConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("detector", "haar"),
        ("upsample", 3),
        ("crop_px", 8),
        ("margin_px", 81),
        ("alignment", "seven-point"),
        ("alignment", "five-point"),
        ("detector_model", Path("model.onnx")),
        ("min_score", 11.0),
        ("min_score", float("nan")),
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


@pytest.mark.parametrize("detector", ["dlib-mmod", "yunet"])
def test_detectors_with_a_model_ask_for_its_file(detector: Any) -> None:
    with pytest.raises(ValueError, match="^detector_model is None, expected the path of .*[.]"):
        IngestConfig(detector=detector)


@pytest.mark.parametrize(
    ("detector", "low", "high"), [("dlib-hog", -1, 10), ("dlib-mmod", 0, 10), ("yunet", 0, 1)]
)
def test_scores_have_each_detectors_own_range(detector: Any, low: float, high: float) -> None:
    model = None if detector == "dlib-hog" else Path("model")
    for score in (low, high):
        config = IngestConfig(detector=detector, detector_model=model, min_score=score)
        assert config.resolved_min_score == score
    for score in (low - 0.1, high + 0.1):
        with pytest.raises(ValueError, match=f"^min_score is .* for detector {detector}$"):
            IngestConfig(detector=detector, detector_model=model, min_score=score)


def test_no_score_is_asked_of_the_whole_photo() -> None:
    with pytest.raises(ValueError, match="detector none gives no scores"):
        IngestConfig(detector="none", min_score=0.5)
    assert IngestConfig(detector="none").resolved_min_score == 0


def test_alignment_and_margin_follow_from_the_detector() -> None:
    yunet = IngestConfig(detector="yunet", detector_model=Path("model"))
    assert (yunet.resolved_alignment, yunet.resolved_margin_px) == ("five-point", 0)
    assert (yunet.resolved_min_score, replace(yunet, margin_px=9).resolved_margin_px) == (0.8, 9)
    boxed = replace(yunet, alignment="box")
    assert (boxed.resolved_alignment, boxed.resolved_margin_px) == ("box", 44)
    assert IngestConfig().resolved_alignment == "box"


def test_config_imports_nothing_heavy() -> None:
    code = (
        "import sys, facequarry.datasets.config; "
        "print([name for name in ('ray', 'dlib', 'cv2', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
