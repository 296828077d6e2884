"""What `pip wheel .` makes: one name at its top, beside another package called `datasets`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("facequarry", "datasets", "trainer", "miner", "jobs", "dashboards")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy: setuptools leaves its own folders where it builds."""
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--quiet", "-w", out, source], check=True, timeout=300)
    return next(out.glob("*.whl"))


def test_it_holds_facequarry_and_nothing_else(wheel: Path) -> None:
    names = ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"facequarry"}
    files = {f"facequarry/{path.relative_to(ROOT)}" for path in (ROOT / "jobs").rglob("*.toml")}
    for folder in FOLDERS[1:]:
        found = (ROOT / folder).rglob("*.py")
        files |= {f"facequarry/{path.relative_to(ROOT)}" for path in found}
    assert files <= set(names)


def test_another_package_called_datasets_stays_importable(wheel: Path, tmp_path: Path) -> None:
    ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "site" / "datasets").mkdir()
    (tmp_path / "site" / "datasets" / "__init__.py").write_text("name = 'another'\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import datasets, facequarry, facequarry.datasets.config\n"
        "print(datasets.name, facequarry.__file__, facequarry.datasets.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    other, *ours = done.stdout.split()
    assert other == "another"
    assert all(Path(path).is_relative_to(tmp_path / "site" / "facequarry") for path in ours)
