"""What the documents name exists: files, folders, links, make targets, modules, verbs."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "datasets|trainer|miner|jobs|dashboards|benchmarks|tests|docs"


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings have where it is read."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_folders_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"`([\w.-]+/[\w/.-]+\.(?:py|toml|md))`", text):
        assert (ROOT / path).is_file(), path
    for path in re.findall(rf"`((?:{FOLDERS})/(?:[\w-]+/)*)`", text):
        assert (ROOT / path).is_dir(), path


def test_documents_that_the_source_names_exist() -> None:
    for folder in FOLDERS.split("|"):
        for path in (ROOT / folder).rglob("*.py"):
            for link in re.findall(r"docs/[\w-]+\.md(?:#[\w-]+)?", path.read_text("utf-8")):
                file, _, anchor = link.partition("#")
                assert (ROOT / file).is_file(), f"{path}: {link}"
                assert not anchor or anchor in anchors(ROOT / file), f"{path}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, flags=re.MULTILINE)) <= {*targets}
    for module in re.findall(r"python -m ((?:benchmarks|facequarry|tests)[\w.]*)", text):
        assert find_spec(module) is not None, module
    verbs = {path.stem for path in (ROOT / "jobs" / "verbs").glob("*.py")}
    assert set(re.findall(r"(?:`|^)facequarry ([a-z]+)", text, flags=re.MULTILINE)) <= verbs
