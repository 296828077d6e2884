"""The house rules of the design, read from the source with `ast`."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
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
    "datasets/actors/pool.py",
    "trainer/ray_train.py",
    "miner/queue_actor.py",
}
MOST_FILES = 15
# One of each in every package, or in every folder of one kind.
SHARED_NAMES = {"__init__", "__main__", "config"}


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the dotted name of a module without `facequarry`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sources(*PACKAGES)}


def imports(path: Path) -> Iterator[str]:
    """Yield every import in full, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """Return the modules of ours that a file imports."""
    found = set()
    for name in imports(path):
        inside = name.removeprefix("facequarry.")
        if inside != name:
            found |= {inside, inside.rpartition(".")[0]} & MODULES.keys()
    return found


def circle_in(links: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(links).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    for path in sources(package):
        used = {name.partition(".")[0] for name in ours(path)}
        assert used <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {used}"


def test_files_and_folders_beside_each_other_import_without_circles() -> None:
    links: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, path in MODULES.items():
        for other in ours(path) - {name}:
            if name.startswith(f"{other}.") or other.startswith(f"{name}."):
                continue  # a folder's front, and what lies in it
            mine, theirs = name.split("."), other.split(".")
            depth = next(i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b)
            links[".".join(mine[:depth])][mine[depth]].add(theirs[depth])
    circles = {folder: circle for folder in links if (circle := circle_in(links[folder]))}
    assert not circles


def test_a_circle_would_be_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle_in({"a": {"b", "c"}, "b": {"c"}})


def test_no_folder_is_a_drawer() -> None:
    files = (path for path in sources(*PACKAGES, "benchmarks", "tests") if path.stem != "__init__")
    counts = Counter(path.parent.relative_to(ROOT) for path in files)
    assert {str(folder): n for folder, n in counts.items() if n > MOST_FILES} == {}


def test_no_two_files_bear_one_name() -> None:
    names = Counter(
        path.stem for path in MODULES.values() if "verbs" not in path.parts and path.is_file()
    )
    assert {name for name, n in names.items() if n > 1} <= SHARED_NAMES


def test_no_two_classes_bear_one_name() -> None:
    found = defaultdict(set)
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                if not name.startswith("jobs.verbs."):  # each verb's flags bear the verb's name
                    found[node.name].add(name)
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_nothing_of_ours_is_imported_by_a_bare_name() -> None:
    for path in sources(*PACKAGES, "benchmarks", "tests"):
        bare = {name for name in imports(path) if name.partition(".")[0] in PACKAGES}
        assert not bare, f"{path.relative_to(ROOT)} imports {bare}"


def test_nothing_of_ours_is_imported_twice_though_the_root_is_on_the_path() -> None:
    code = (
        "import importlib, sys\n"
        f"for name in {sorted(MODULES)!r}:\n"
        "    if name.endswith(('__main__', 'dashboards.app')) or 'triton' in name: continue\n"
        "    importlib.import_module(f'facequarry.{name}')\n"
        f"print([name for name in {PACKAGES!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("use", "heavy"),
    [
        ("import facequarry; facequarry.MinerConfig()", ("torch", "ray", "faiss", "numba", "cv2")),
        # A queue that was killed is back as fast as its process can start.
        ("import facequarry.miner.queue_actor", ("torch", "faiss", "numba", "cv2")),
    ],
)
def test_what_has_to_be_light_is(use: str, heavy: tuple[str, ...]) -> None:
    code = f"{use}; import sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["datasets", "trainer", "miner", "dashboards"])
def test_ray_is_imported_in_thin_modules_alone(package: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in sources(package)
        if any(name.partition(".")[0] == "ray" for name in imports(path))
    }
    assert users == {name for name in RAY_MODULES if name.startswith(f"{package}/")}


def test_our_code_reads_no_environment_variable() -> None:
    for path in sources(*PACKAGES):
        text = path.read_text(encoding="utf-8")
        assert "os.getenv" not in text and "environ.get(" not in text, path


def test_every_module_says_what_it_is() -> None:
    for path in sources(*PACKAGES):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
