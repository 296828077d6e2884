"""Publish: make files visible once and whole.

Everything that FaceQuarry leaves on disk goes through this module. A file or a folder is staged
beside its final name, under a name that carries its owner, and then renamed onto a name that must
not exist. A reader that finds a name finds all of it; a killed writer leaves only staging names,
which the next holder of the writer lock sweeps.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from facequarry.datasets.disk.errors import AlreadyExists, BadInput, Damaged, NotFound

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
_STAGING = ".staging-"


class AlreadyPublished(AlreadyExists):
    """The name is taken: what was published under it never changes."""


class NewerSchema(BadInput):
    """A manifest was written by a newer FaceQuarry than this one."""


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def dump_json(value: object) -> str:
    """Return `value` as the JSON text that is published: sorted keys, one final newline."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


@contextlib.contextmanager
def staged_file(
    final: Path, *, replace: bool = False, before_rename: Callable[[], object] | None = None
) -> Iterator[Path]:
    """Yield a path to write to; on a clean exit it becomes `final` in one step.

    Args:
        final: the name to publish under; missing parent folders are made.
        replace: allow an existing `final` to be replaced (for caches and pictures, which are
            derived and may be made again; never for what is published).
        before_rename: called when the bytes are on disk, directly before the name exists; what it
            raises keeps the name from existing, and is raised on.

    Raises:
        AlreadyPublished: `final` exists and `replace` is false.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    staging = _staging_path(final)
    try:
        yield staging
        flush(staging)
        if before_rename is not None:
            before_rename()
        if replace:
            os.replace(staging, final)
        else:
            _link_new(staging, final)
        flush(final.parent)
    finally:
        staging.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(
    final: Path, *, flush_files: bool = True, before_rename: Callable[[], object] | None = None
) -> Iterator[Path]:
    """Yield a folder to fill; on a clean exit it becomes `final` in one rename.

    Args:
        final: the name to publish under; missing parent folders are made.
        flush_files: bring every file to disk before the name exists.
        before_rename: called when the files are on disk, directly before the name exists; what it
            raises keeps the name from existing, and is raised on.

    Raises:
        AlreadyPublished: `final` exists and is not empty.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    staging = _staging_path(final)
    staging.mkdir()
    try:
        yield staging
        for path in staging.rglob("*") if flush_files else ():
            if path.is_file():
                flush(path)
        flush(staging)
        if before_rename is not None:
            before_rename()
        try:
            os.rename(staging, final)
        except OSError as error:
            if final.exists():
                raise AlreadyPublished(f"{final} is published already") from error
            raise
        flush(final.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_json(final: Path, value: object, *, replace: bool = False) -> None:
    """Publish `value` as JSON under `final`.

    Raises:
        AlreadyPublished: `final` exists and `replace` is false.
    """
    with staged_file(final, replace=replace) as staging:
        staging.write_text(dump_json(value), encoding="utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a published JSON manifest.

    Raises:
        NotFound: nothing is published under this name.
        NewerSchema: it was written by a newer version; the sentence says what to do.
        Damaged: it is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"{path} is not valid JSON ({error}); restore it or remove it") from error
    if not isinstance(value, dict):
        raise Damaged(f"{path} holds {type(value).__name__}, expected a JSON object")
    found = value.get("schema_version", SCHEMA_VERSION)
    if not isinstance(found, int) or found > SCHEMA_VERSION:
        raise NewerSchema(
            f"{path} has schema_version {found}, this FaceQuarry reads up to {SCHEMA_VERSION}; "
            "install a newer facequarry"
        )
    return value


def numbered(folder: Path, prefix: str, commit: str = MANIFEST) -> list[int]:
    """Return the numbers of the published sub-folders `<prefix><number>`, ascending.

    A sub-folder is published when it holds the file `commit`.
    """
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name.removeprefix(prefix))
        for path in folder.iterdir()
        if path.name.startswith(prefix)
        and path.name.removeprefix(prefix).isdigit()
        and (path / commit).is_file()
    )


def sweep_staging(folder: Path) -> int:
    """Remove what killed writers left in `folder`; return how many names went.

    Call it only while holding the writer lock of `folder`: then every staging name is dead. One
    whose owner is about to die may still go by itself meanwhile.
    """
    dead = list(folder.glob(f"{_STAGING}*")) if folder.is_dir() else []
    for path in dead:
        with contextlib.suppress(FileNotFoundError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return len(dead)


def _staging_path(final: Path) -> Path:
    owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return final.parent / f"{_STAGING}{owner}-{final.name}"


def _link_new(staging: Path, final: Path) -> None:
    # A hard link fails on an existing name, which a rename would silently replace.
    try:
        os.link(staging, final)
    except FileExistsError as error:
        raise AlreadyPublished(f"{final} is published already") from error


def flush(path: Path) -> None:
    """Bring a file's bytes, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_published(folder: Path) -> None:
    """Remove a published folder: whole for its readers until one rename takes the name away.

    A killed remover leaves a staging name, which is swept as a killed writer's is.

    Raises:
        NotFound: nothing has this name.
    """
    dead = _staging_path(folder)
    os.rename(folder, dead)
    flush(folder.parent)
    # A remover and a sweeper may meet in one staging folder; what either leaves is swept again.
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(dead)
