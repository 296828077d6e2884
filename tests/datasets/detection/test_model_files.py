"""Model files that a user may name by mistake: one sentence each, and nothing printed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from facequarry.datasets.config import MODEL_FILES, DetectorName, IngestConfig
from facequarry.datasets.detection.detectors import make_detector

_MMOD = "mmod_human_face_detector.dat"
_YUNET = "face_detection_yunet_2023mar.onnx"
_OUTPUTS = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]


def _refusal(
    detector: DetectorName, model: Path, capfd: pytest.CaptureFixture[str]
) -> ValueError | FileNotFoundError:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        make_detector(IngestConfig(detector=detector, detector_model=model))
    assert capfd.readouterr() == ("", "")
    message = str(caught.value)
    assert str(model) in message
    assert f"detector {detector}" in message
    assert MODEL_FILES[detector] in message
    assert "\n" not in message
    assert isinstance(caught.value, ValueError | FileNotFoundError)
    return caught.value


@pytest.mark.parametrize("detector", ["dlib-mmod", "yunet"])
def test_absent_file_is_named(
    detector: DetectorName, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(_refusal(detector, tmp_path / "absent", capfd), FileNotFoundError)


def _folder(path: Path) -> None:
    path.mkdir()


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(65 << 20)


@pytest.mark.parametrize("detector", ["dlib-mmod", "yunet"])
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (_folder, "it is no regular file"),
        (os.mkfifo, "it is no regular file"),
        (Path.touch, "it is empty"),
        (_large, "it has more than 64 MiB"),
    ],
)
def test_what_is_no_model_at_all_is_refused(
    detector: DetectorName,
    make: Callable[[Path], None],
    found: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / "model")
    assert found in str(_refusal(detector, tmp_path / "model", capfd))


@pytest.mark.parametrize(
    ("detector", "raw", "found"),
    [
        ("dlib-mmod", b"\xff\xd8\xff\xe0 photo" * 99, r"it starts with b'\xff\xd8"),
        ("dlib-mmod", b"\1\1\1\nloss_mmod_\1\1" + bytes(999), "dlib says"),
        ("yunet", b"\xff\xd8\xff\xe0 photo" * 99, "it has no output cls_8"),
        ("yunet", b"\x08\x06\x12\x07pytorch:\x05\x12\x03abc", "it has no output cls_8"),
        ("yunet", b"".join(b"\n%c" % len(n) + n.encode() for n in _OUTPUTS), "OpenCV says"),
    ],
)
def test_bytes_of_something_else_are_refused(
    detector: DetectorName,
    raw: bytes,
    found: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "model").write_bytes(raw)
    assert found in str(_refusal(detector, tmp_path / "model", capfd))


@pytest.mark.real_data
@pytest.mark.parametrize(("detector", "model"), [("dlib-mmod", _YUNET), ("yunet", _MMOD)])
def test_model_of_the_other_detector_is_refused(
    detector: DetectorName, model: str, real_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _refusal(detector, real_data / "models" / model, capfd)


@pytest.mark.real_data
@pytest.mark.parametrize(("detector", "model"), [("dlib-mmod", _MMOD), ("yunet", _YUNET)])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_model_that_ends_early_is_refused(
    detector: DetectorName,
    model: str,
    share: float,
    real_data: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    raw = (real_data / "models" / model).read_bytes()
    (tmp_path / model).write_bytes(raw[: int(len(raw) * share)])
    _refusal(detector, tmp_path / model, capfd)


@pytest.mark.real_data
@pytest.mark.parametrize(("detector", "model"), [("dlib-mmod", _MMOD), ("yunet", _YUNET)])
def test_right_model_loads_without_a_word(
    detector: DetectorName, model: str, real_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = real_data / "models" / model
    found = make_detector(IngestConfig(detector=detector, detector_model=path))
    assert found.name == detector
    assert len(str(found.options["model_sha256"])) == 64
    assert str(path) not in str(found.options)
    assert capfd.readouterr() == ("", "")
