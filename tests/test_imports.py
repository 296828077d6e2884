"""The import rules of the design, read from the source with `ast`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("datasets", "trainer", "miner", "jobs", "dashboards")
ALLOWED = {
    "datasets": {"datasets"},
    "trainer": {"datasets", "trainer"},
    "miner": {"datasets", "trainer", "miner"},
    "jobs": {"datasets", "trainer", "miner", "jobs", "dashboards"},
    "dashboards": {"datasets", "dashboards"},
}
RAY_MODULES = {
    "datasets/ingest/detection_pool.py",
    "trainer/ray_train.py",
    "miner/actors.py",
    "miner/spread/actor_pool.py",
}


def modules(package: str) -> Iterator[Path]:
    yield from sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Yield the top-level package of every import, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("facequarry.").split(".")[0] for alias in node.names
            )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.removeprefix("facequarry.").split(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    for path in modules(package):
        ours = {name for name in imported(path) if name in PACKAGES}
        assert ours <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {ours}"


@pytest.mark.parametrize("package", ["datasets", "trainer", "miner", "dashboards"])
def test_ray_is_imported_in_thin_modules_alone(package: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix() for path in modules(package) if "ray" in imported(path)
    }
    assert users == {name for name in RAY_MODULES if name.startswith(f"{package}/")}


def test_our_code_reads_no_environment_variable() -> None:
    for package in PACKAGES:
        for path in modules(package):
            text = path.read_text(encoding="utf-8")
            assert "os.getenv" not in text and "environ.get(" not in text, path


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is(package: str) -> None:
    for path in modules(package):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
