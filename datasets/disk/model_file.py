"""A detector's model file, checked before a library that may crash on it sees it."""

from __future__ import annotations

from pathlib import Path

from facequarry.datasets.disk.errors import NotFound

_MAX_BYTES = 64 << 20


def read_model(path: Path, *, detector: str, expected: str) -> bytes:
    """Read a model file that a user named.

    Args:
        path: the file.
        detector: name of the detector that it is for.
        expected: the name under which the right file is published.

    Raises:
        NotFound: there is no such file.
        BadInput: it is no regular file, empty, unreadable, or too large to be a model.
    """
    if not path.exists():
        raise NotFound(f"no model file {path} for detector {detector}, expected {expected}")
    if not path.is_file():
        raise wrong_model(path, detector, expected, "it is no regular file")
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise wrong_model(path, detector, expected, f"{error.strerror}") from error
    if not raw:
        raise wrong_model(path, detector, expected, "it is empty")
    if len(raw) > _MAX_BYTES:
        raise wrong_model(path, detector, expected, f"it has more than {_MAX_BYTES >> 20} MiB")
    return raw


def wrong_model(path: Path, detector: str, expected: str, found: str) -> ValueError:
    """Return the error that says what is wrong with a model file and which one is expected."""
    return ValueError(f"{path} is no model of detector {detector}: {found}; expected {expected}")
