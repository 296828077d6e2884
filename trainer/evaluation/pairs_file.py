"""LFW-style pairs files: which photos to compare, and the folds where the file has them.

    10<TAB>300                          header of ten folds: 300 matched pairs, then 300 mismatched,
    Abel_Pacheco<TAB>1<TAB>4            ten times over; 1100 alone is one set of 1100 and 1100
    AJ_Cook<TAB>1<TAB>Aaron_Sorkin<TAB>2

A line names photos by person and number: `AJ_Cook/AJ_Cook_0001`, whatever their suffix.
`evaluation.pairs_faces` finds their faces.

    pairs = read_pairs_file(Path("pairsDevTrain.txt"))
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.sources.photos import name_of
from facequarry.trainer.evaluation.face_pairs import BoolArray, IntArray


class PhotoName(NamedTuple):
    """A photo as a pairs file names it."""

    identity: str
    """The person, spelled as faces spell identities."""
    number: int

    @property
    def stem(self) -> str:
        """The photo's path below the source's folder, without a suffix."""
        return f"{self.identity}/{self.identity}_{self.number:04d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedPairs:
    """The pairs of a file, or some of them."""

    path: Path
    left: tuple[PhotoName, ...]
    """(P,) first photo of each pair."""
    right: tuple[PhotoName, ...]
    """(P,) second photo of each pair."""
    fold_of: IntArray | None
    """(P,) int64, the file's fold of each pair; None where the file has one set."""

    def __len__(self) -> int:
        return len(self.left)

    @property
    def is_same(self) -> BoolArray:
        """(P,) bool, both photos name one person."""
        names = zip(self.left, self.right, strict=True)
        return np.array([left.identity == right.identity for left, right in names], dtype=bool)

    @property
    def num_in_several_folds(self) -> int:
        """People of whom more than one of the file's folds has photos."""
        if self.fold_of is None:
            return 0
        photos = (
            *zip(self.left, self.fold_of, strict=True),
            *zip(self.right, self.fold_of, strict=True),
        )
        folds: dict[str, set[int]] = {}
        for photo, fold in photos:
            folds.setdefault(photo.identity, set()).add(int(fold))
        return sum(len(found) > 1 for found in folds.values())

    def only(self, chosen: BoolArray) -> NamedPairs:
        """Return the pairs for which `chosen`, (P,) bool, is true."""
        rows = np.flatnonzero(chosen).tolist()
        return replace(
            self,
            left=tuple(self.left[row] for row in rows),
            right=tuple(self.right[row] for row in rows),
            fold_of=None if self.fold_of is None else self.fold_of[chosen],
        )


class _Header(NamedTuple):
    line: str
    num_folds: int | None
    size: int
    """Matched pairs, and mismatched pairs, of each fold."""

    @property
    def num_pairs(self) -> int:
        return 2 * self.size * (self.num_folds or 1)

    def fold(self, position: int) -> int:
        return position // (2 * self.size)

    def is_same(self, position: int) -> bool:
        return position // self.size % 2 == 0


def read_pairs_file(path: Path) -> NamedPairs:
    """Read a pairs file; blank lines and CRLF are taken as they come.

    Raises:
        NotFound: there is no such file.
        BadInput: a line is malformed, or the lines are not those that the header announces; the
            sentence names file and line.
    """
    if not path.is_file():
        raise NotFound(f"no pairs file {path}; LFW's are pairs.txt and pairsDevTrain.txt")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no UTF-8 text ({error.reason}); save it as UTF-8") from error
    # Not splitlines(): it would also break a line at characters that a name may hold.
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not numbered:
        raise BadInput(f"{path} is empty; expected a header such as 1100, then pairs")
    header = _header(path, *numbered[0])
    pairs = [
        _pair(path, number, line, header, position)
        for position, (number, line) in enumerate(numbered[1:])
    ]
    if len(pairs) != header.num_pairs:
        raise BadInput(
            f"{path} has {len(pairs)} pairs, its header {header.line!r} announces "
            f"{header.num_pairs}; mend the header or restore the file"
        )
    folds = np.array([header.fold(position) for position in range(len(pairs))], dtype=np.int64)
    return NamedPairs(
        path=path,
        left=tuple(left for left, _ in pairs),
        right=tuple(right for _, right in pairs),
        fold_of=None if header.num_folds is None else folds,
    )


def _header(path: Path, number: int, line: str) -> _Header:
    fields = _fields(line)
    if len(fields) in (1, 2) and all(_is_number(field) for field in fields):
        *folds, size = map(int, fields)
        if size > 0 and (not folds or folds[0] > 1):
            return _Header("<TAB>".join(fields), folds[0] if folds else None, size)
    raise BadInput(
        f"{path} line {number} is {_shown(line)}, expected a header: pairs of either kind such as "
        "1100, or folds and pairs such as 10<TAB>300"
    )


def _pair(
    path: Path, number: int, line: str, header: _Header, position: int
) -> tuple[PhotoName, PhotoName]:
    where = f"{path} line {number}"
    fields = _fields(line)
    match fields:
        case [name, first, second]:
            left, right = (name, first), (name, second)
        case [name, first, other, second]:
            left, right = (name, first), (other, second)
        case _:
            left = right = ("", "")
    if not all(name and "/" not in name and _is_number(photo) for name, photo in (left, right)):
        raise BadInput(
            f"{where} is {_shown(line)}, expected Name<TAB>1<TAB>2 or Name<TAB>1<TAB>Other<TAB>2"
        )
    if position >= header.num_pairs:
        raise BadInput(
            f"{where}: more pairs than the {header.num_pairs} that the header {header.line!r} "
            "announces; mend the header or restore the file"
        )
    if (len(fields) == 3) != header.is_same(position):
        kinds = ("matched", "mismatched")
        found, expected = kinds if len(fields) == 3 else kinds[::-1]
        raise BadInput(
            f"{where} is the {found} pair {_shown(line)}, where the header {header.line!r} "
            f"announces a {expected} one"
        )
    if len(fields) == 4 and left[0] == right[0]:
        raise BadInput(f"{where} is a mismatched pair of one person: {_shown(line)}")
    photos = [PhotoName(name_of(name), int(photo)) for name, photo in (left, right)]
    if photos[0] == photos[1]:
        raise BadInput(f"{where} pairs a photo with itself: {_shown(line)}")
    return photos[0], photos[1]


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.strip().split("\t")]


def _is_number(field: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", field) is not None


def _shown(line: str) -> str:
    short = line.strip() if len(line) <= 80 else f"{line.strip()[:77]}..."
    return repr(short)
