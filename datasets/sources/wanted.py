"""Which identities are wanted: lists to keep and to leave out.

    choose_identities(photos, keep=None, leave_out=read_names(Path("lfw_people.txt")), meta=meta)

Training on people that an evaluation set holds flatters the evaluation. With VGGFace2's
`identity_meta.csv` a list of names, such as LFW's, drops those people from its numbered folders.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.text import quoted, read_text
from facequarry.datasets.sources.photos import name_of

IN_LEAVE_OUT_LIST = "of an identity in the leave-out list"
NOT_IN_KEEP_LIST = "of an identity that is not in the keep list"

_EXPECTED = "a list of identities, one a line"
_COMMENT = re.compile(r"(^|\s)#.*")
_FIRST_FIELD = re.compile(r'"(?P<quoted>[^"]*)"|(?P<plain>.*?)(?=\t|,|\s{2,}|$)')


class NobodyLeft(BadInput):
    """The lists leave no photo; the sentence says which one did it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedIdentities:
    """The photos of the wanted identities."""

    photos: pa.Table
    """The rows of the listing that are left, in its order."""
    left_out: dict[str, int]
    """Photos left out, by reason; reasons without any are absent."""
    unmatched: list[str]
    """Entries of the lists that name no identity of the listing, the keep list's first."""


def read_names(path: Path) -> list[str]:
    """Read a list of identities: folder names or people's names, one a line.

    A name ends at a tab, a comma or two spaces, or is quoted; `#` begins a comment. LFW's lists
    of people and of pairs are read as published, their counts left out.

    Returns:
        The names in the order of the file, each once.

    Raises:
        NotFound: there is no such file.
        BadInput: it is not UTF-8 text, names nobody or has a line without a name.
    """
    lines = read_text(path, expected=_EXPECTED).split("\n")
    numbered = [(number, _COMMENT.sub("", line).strip()) for number, line in enumerate(lines, 1)]
    numbered = [(number, line) for number, line in numbered if line]
    names = _lfw_names([line for _, line in numbered])
    if names is None:
        names = [_first_field(line, f"{path} line {number}") for number, line in numbered]
    if not names:
        raise BadInput(f"{path} names nobody, expected {_EXPECTED}")
    return list(dict.fromkeys(names))


def choose_identities(
    photos: pa.Table,
    *,
    keep: Sequence[str] | None,
    leave_out: Sequence[str] | None,
    meta: pa.Table | None,
) -> WantedIdentities:
    """Leave out the photos of identities that are not wanted.

    An entry of a list names the identity whose folder is called exactly so, else, with `meta`,
    every identity of that name (see `name_key`).

    Args:
        photos: a listing; only `identity` is looked at.
        keep: the identities wanted, None for all.
        leave_out: the identities not wanted, even where `keep` names them.
        meta: what `vggface2.read_identity_meta` returned.

    Raises:
        NobodyLeft: a list is given and no photo is left.
    """
    identities = set(pc.unique(photos["identity"]).to_pylist())
    by_name = _by_name(meta, identities)
    kept, unmatched = _find(keep or [], identities, by_name)
    dropped, unmatched_too = _find(leave_out or [], identities, by_name)
    wanted = (identities if keep is None else kept) - dropped
    if not wanted and (keep is not None or leave_out is not None):
        raise NobodyLeft(_nothing_left(keep, kept, identities, has_names=meta is not None))
    is_wanted, num_wanted = _among(photos, wanted)
    _, num_dropped = _among(photos, dropped)
    left_out = {
        IN_LEAVE_OUT_LIST: num_dropped,
        NOT_IN_KEEP_LIST: photos.num_rows - num_dropped - num_wanted,
    }
    return WantedIdentities(
        photos=photos.filter(is_wanted),
        left_out={reason: num for reason, num in left_out.items() if num},
        unmatched=list(dict.fromkeys(unmatched + unmatched_too)),
    )


def name_key(name: str) -> str:
    """Return what two spellings of a person's name share: letters and digits without accents.

    `A. J. Cook`, `A_J_Cook` and `AJ_Cook` are one person, and so are `Pelé` and `Pele`. Letters
    that Unicode does not decompose stay: `ł` is not `l`.
    """
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    return "".join(char for char in decomposed if char.isalnum())


def _by_name(meta: pa.Table | None, identities: set[str]) -> dict[str, set[str]]:
    by_name: defaultdict[str, set[str]] = defaultdict(set)
    if meta is not None:
        rows = zip(meta["identity"].to_pylist(), meta["name"].to_pylist(), strict=True)
        for identity, name in rows:
            if identity in identities:
                by_name[name_key(name)].add(identity)
    by_name.pop("", None)  # a name of signs alone would match any other
    return by_name


def _find(
    entries: Sequence[str], identities: set[str], by_name: dict[str, set[str]]
) -> tuple[set[str], list[str]]:
    found: set[str] = set()
    unmatched: list[str] = []
    for entry in entries:
        folder = name_of(entry)
        matches = {folder} & identities or by_name.get(name_key(entry), set())
        found |= matches
        if not matches:
            unmatched.append(entry)
    return found, unmatched


def _among(photos: pa.Table, identities: set[str]) -> tuple[pa.ChunkedArray, int]:
    is_among = pc.is_in(photos["identity"], pa.array(sorted(identities), pa.string()))
    return is_among, pc.sum(is_among, min_count=0).as_py()


def _nothing_left(
    keep: Sequence[str] | None, kept: set[str], identities: set[str], *, has_names: bool
) -> str:
    if keep is not None and not kept:
        example = quoted(min(identities)) if identities else "none at all"
        hint = "" if has_names else "; people's names need identity_meta.csv"
        entry = f", such as {quoted(keep[0])}," if keep else ""
        return (
            f"no photo is left: none of the {len(keep)} entries of the keep list{entry} names one "
            f"of the {len(identities)} identities, such as {example}{hint}"
        )
    named = f"all {len(identities)} identities" if keep is None else "all that the keep list keeps"
    return f"no photo is left: the leave-out list names {named}"


def _lfw_names(lines: list[str]) -> list[str] | None:
    """Return the names of LFW's people or pairs file, None for any other list."""
    if not lines:
        return None
    first, *rest = [line.split("\t") for line in lines]
    # A list of numbered folders begins with a number as well, but no counts follow its names.
    if not all(field.isdigit() for field in first) or len(first) > 2:
        return None
    if not any(len(row) > len(first) and row[1].isdigit() for row in rest):
        return None
    names: list[str] = []
    for row in rest:
        if row[1:] or not row[0].isdigit():  # people.txt holds the count of each of its ten sets
            names += row[0:3:2] if len(row) == 4 else row[:1]
    return names


def _first_field(line: str, where: str) -> str:
    match = _FIRST_FIELD.match(line)
    name = (match["quoted"] or match["plain"] or "").strip() if match else ""
    if not name:
        raise BadInput(f"{where} has no name before its comma: {quoted(line)}")
    return name
