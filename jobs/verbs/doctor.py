"""`facequarry doctor`: what is installed and what can run here."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.storage_check import check_storage
from facequarry.jobs.config import parse

_NEEDED = {
    "ray": "ray",
    "torch": "torch",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "opencv": "opencv-python-headless",
    "dlib": "dlib-bin",
    "numba": "numba",
    "tyro": "tyro",
    "scikit-learn": "scikit-learn",
    "pytorch-metric-learning": "pytorch-metric-learning",
}
_OPTIONAL = {"streamlit": "pip install 'facequarry[dashboard]'", "plotly": "the same extra"}
_RUNS = "runs: "


@dataclass(frozen=True, kw_only=True, slots=True)
class Doctor:
    """Print versions, devices, FAISS and detectors; try a folder for runs."""

    runs: Path | None = None
    """Folder where runs lie or will lie: locks and renames are tried there, and nothing is left."""
    hold_s: float = 0.0
    """Keep the lock for that long, s: a second machine that tries the same folder meanwhile must
    find it held, or machines do not exclude each other there."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, whether it is well, and what to do if not."""

    name: str
    is_well: bool
    text: str
    is_needed: bool = True

    @property
    def if_not(self) -> str:
        """The first word of its line where it is not well."""
        if self.name.startswith(_RUNS):
            return "fails"
        return "missing" if self.is_needed else "absent"


def run(flags: Sequence[str]) -> int:
    """Print the findings; exit code 1 if something that is needed is missing."""
    asked = parse(Doctor, flags, prog="facequarry doctor")
    table = Table(show_header=False)
    findings = look() + ([] if asked.runs is None else _storage(asked.runs, asked.hold_s))
    for finding in findings:
        word = "ok" if finding.is_well else finding.if_not
        table.add_row(word, finding.name, finding.text)
    Console().print(table)
    return 1 if any(f.is_needed and not f.is_well for f in findings) else 0


def look() -> list[Finding]:
    """Look at everything once."""
    findings = [Finding("python", True, platform.python_version())]
    findings += [_distribution(name, dist) for name, dist in _NEEDED.items()]
    findings += [_faiss(), _device(), *_detectors()]
    for name, hint in _OPTIONAL.items():
        finding = _distribution(name, name, needed=False)
        findings.append(
            finding if finding.is_well else Finding(name, False, f"install: {hint}", False)
        )
    free_gib = shutil.disk_usage(".").free / 2**30
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    findings.append(Finding("cpu cores", True, str(os.cpu_count())))
    findings.append(Finding("memory", True, f"{memory_gib:.0f} GiB"))
    findings.append(Finding("free disk here", free_gib > 1, f"{free_gib:.0f} GiB"))
    return findings


def _storage(folder: Path, hold_s: float) -> list[Finding]:
    found = check_storage(folder, hold_s=hold_s)
    return [Finding(f"{_RUNS}{finding.what}", finding.is_well, finding.text) for finding in found]


def _distribution(name: str, distribution: str, *, needed: bool = True) -> Finding:
    try:
        return Finding(name, True, version(distribution), needed)
    except PackageNotFoundError:
        return Finding(name, False, f"install: pip install {distribution}", needed)


def _faiss() -> Finding:
    if find_spec("faiss") is None:
        return Finding("faiss", False, "install: pip install 'facequarry[cpu]' (or [gpu])")
    import faiss

    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return Finding("faiss", True, f"{faiss.__version__}, {gpus} GPUs usable by it")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("gpu", True, ", ".join(names), is_needed=False)
    return Finding("gpu", False, "torch sees none; training and mining run on the CPU", False)


def _detectors() -> list[Finding]:
    from typing import get_args

    from facequarry.datasets.config import MODEL_FILES, DetectorName, IngestConfig
    from facequarry.datasets.detection.detectors import make_detector

    findings = []
    for name in get_args(DetectorName):
        if name in MODEL_FILES:
            findings.append(_detector_with_model(name, MODEL_FILES[name]))
            continue
        try:
            make_detector(IngestConfig(detector=name))
            findings.append(Finding(f"detector {name}", True, "loads"))
        except (ImportError, OSError, BadInput) as error:
            findings.append(Finding(f"detector {name}", False, str(error)))
    return findings


def _detector_with_model(name: str, model: str) -> Finding:
    """Say whether the library is there; the model file is the user's to name."""
    import cv2

    if name == "dlib-mmod" and find_spec("dlib") is None:
        return Finding(f"detector {name}", False, "install: pip install dlib-bin", False)
    if name == "yunet" and not hasattr(cv2, "FaceDetectorYN"):
        text = f"OpenCV {cv2.__version__} has no FaceDetectorYN"
        return Finding(f"detector {name}", False, text, False)
    return Finding(f"detector {name}", True, f"library is there; needs --detector-model {model}")
