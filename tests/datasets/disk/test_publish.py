from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facequarry.datasets.disk.publish import (
    AlreadyPublished,
    NewerSchema,
    numbered,
    read_manifest,
    staged_file,
    staged_folder,
    sweep_staging,
    write_json,
)


class Killed(BaseException):
    """Stands for whatever ends a writer in the middle."""


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "a.txt"
    with pytest.raises(Killed), staged_file(final) as staging:
        staging.write_text("half")
        raise Killed
    assert not final.exists() and list(final.parent.iterdir()) == []
    with staged_file(final) as staging:
        staging.write_text("whole")
    assert final.read_text() == "whole"
    assert list(final.parent.iterdir()) == [final]


def test_what_is_published_is_never_replaced(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(AlreadyPublished):
        write_json(tmp_path / "a.json", {"x": 2})
    assert read_manifest(tmp_path / "a.json") == {"x": 1}
    write_json(tmp_path / "a.json", {"x": 3}, replace=True)
    assert read_manifest(tmp_path / "a.json") == {"x": 3}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "gen=000001"
    with pytest.raises(Killed), staged_folder(final) as staging:
        (staging / "part").write_text("half")
        raise Killed
    assert list(tmp_path.iterdir()) == []
    with staged_folder(final) as staging:
        (staging / "manifest.json").write_text("{}")
    assert [path.name for path in tmp_path.iterdir()] == ["gen=000001"]


def test_a_folder_is_published_once(tmp_path: Path) -> None:
    final = tmp_path / "gen=000001"
    with staged_folder(final) as staging:
        (staging / "manifest.json").write_text("first")
    with pytest.raises(AlreadyPublished), staged_folder(final) as staging:
        (staging / "manifest.json").write_text("second")
    assert (final / "manifest.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["gen=000001"]


@pytest.mark.parametrize("staged", [staged_file, staged_folder])
def test_what_is_called_before_the_rename_has_all_bytes_on_disk_and_a_veto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, staged: Callable[..., Any]
) -> None:
    final = tmp_path / "deep" / "a"
    flushed: list[Path] = []
    monkeypatch.setattr("facequarry.datasets.disk.publish.flush", flushed.append)

    def refuse() -> None:
        assert flushed[-1] == staging
        raise Killed

    with pytest.raises(Killed), staged(final, before_rename=refuse) as staging:
        if staged is staged_file:
            staging.write_text("whole")
        else:
            (staging / "manifest.json").write_text("{}")
    assert list(final.parent.iterdir()) == []


def test_only_folders_with_a_manifest_count(tmp_path: Path) -> None:
    for name in ("gen=000002", "gen=000010", "gen=x", "other=000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    (tmp_path / "gen=000003").mkdir()
    assert numbered(tmp_path, "gen=") == [2, 10]
    assert numbered(tmp_path / "absent", "gen=") == []


def test_sweeping_removes_what_killed_writers_left(tmp_path: Path) -> None:
    (tmp_path / ".staging-host-1-aa-x").write_text("half")
    (tmp_path / ".staging-host-1-bb-y").mkdir()
    (tmp_path / "kept").write_text("whole")
    assert sweep_staging(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_sweeping_bears_that_a_dying_owner_removes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".staging-host-1-aa-x").write_text("half")
    (tmp_path / ".staging-host-1-bb-y").mkdir()
    (tmp_path / ".staging-host-1-bb-y" / "part").write_text("half")
    is_dir, rmtree = Path.is_dir, shutil.rmtree

    def vanish(path: Path) -> bool:
        was = is_dir(path)
        if path != tmp_path:
            rmtree(path) if was else path.unlink()
        return was

    monkeypatch.setattr(Path, "is_dir", vanish)
    assert sweep_staging(tmp_path) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "error"),
    [('{"schema_version": 2}', NewerSchema), ("[1]", ValueError), ("{", ValueError)],
)
def test_a_manifest_that_cannot_be_read_is_refused(
    tmp_path: Path, text: str, error: type[Exception]
) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(error, match="m.json"):
        read_manifest(tmp_path / "m.json")
