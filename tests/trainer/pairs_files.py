"""Pairs files, and photos of the names that they use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.datasets.photos import write_photo

Matched = tuple[str, int, int]
Mismatched = tuple[str, int, str, int]
Rows = list[Matched | Mismatched]


def write_pairs(path: Path, header: str, pairs: Rows, *, newline: str = "\n") -> Path:
    lines = [header, *("\t".join(map(str, pair)) for pair in pairs)]
    path.write_bytes(newline.join([*lines, ""]).encode())
    return path


def write_people(folder: Path, photos: dict[str, int]) -> Path:
    """Write `<Name>/<Name>_0001.jpg` and so on, pictures without faces."""
    for name, count in photos.items():
        for number in range(1, count + 1):
            seed = sum(name.encode()) * 1000 + number
            write_photo(folder / name / f"{name}_{number:04d}.jpg", seed)
    return folder


def all_pairs(names: Sequence[str]) -> Rows:
    """Return a matched pair of each name, and each name's first photo against the next one's."""
    matched: Rows = [(name, 1, 2) for name in names]
    others = [*names[1:], names[0]]
    return matched + [(name, 1, other, 1) for name, other in zip(names, others, strict=True)]
