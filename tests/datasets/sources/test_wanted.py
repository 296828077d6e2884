"""Lists of identities: how they are read and which photos they leave."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.datasets.sources.vggface2 import IDENTITY_META_SCHEMA, read_identity_meta
from facequarry.datasets.sources.wanted import (
    IN_LEAVE_OUT_LIST,
    NOT_IN_KEEP_LIST,
    WantedIdentities,
    choose_identities,
    name_key,
    read_names,
)

LISTS = {
    "plain": ("n000002\nn000003\n", ["n000002", "n000003"]),
    "numbered folders": ("0000045\n0000099\n", ["0000045", "0000099"]),
    "one numbered folder": ("0000045", ["0000045"]),
    "numbered folders with counts": ("0000045\t15\n0000099\t15\n", ["0000045", "0000099"]),
    "CRLF, mark, blanks": ("\ufeff\r\n a \r\n\r\n \t\r\nb\r\n", ["a", "b"]),
    "comments": ("# people\na # why\n  # more\nC#b\n", ["a", "C#b"]),
    "later fields": ("a b\t3\nc_d,4,x\ne f   5\n", ["a b", "c_d", "e f"]),
    "quotes": ('"Davis, Jr.",3\n"b"\n', ["Davis, Jr.", "b"]),
    "twice": ("b\na\nb\n", ["b", "a"]),
    "not ASCII": ("Abdüllatif_Şener\n", ["Abdüllatif_Şener"]),
    "LFW people": ("2\nAJ_Cook\t1\nPele\t4\n", ["AJ_Cook", "Pele"]),
    "LFW people in sets": ("2\n1\nAJ_Cook\t1\n1\nPele\t4\n", ["AJ_Cook", "Pele"]),
    "LFW pairs": ("1\r\nA_B\t1\t2\r\nC_D\t1\tE_F\t3\r\n", ["A_B", "C_D", "E_F"]),
    "LFW pairs in sets": ("10\t300\nA_B\t1\t2\nC_D\t1\tA_B\t3\n", ["A_B", "C_D"]),
}

META = [
    ("n000002", "A_Fine_Frenzy"),
    ("n000003", "A._J._Cook"),
    ("n000004", "Aarón_Díaz"),
    ("n000005", "AJ Cook"),
    ("n000006", "?!"),
    ("n000009", "Not_Listed"),
]


def _meta(rows: list[tuple[str, str]]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"identity": identity, "name": name, "num_photos": 1, "is_train": True, "gender": ""}
            for identity, name in rows
        ],
        schema=IDENTITY_META_SCHEMA,
    )


def _listing(identities: list[str]) -> pa.Table:
    sources = [f"{identity}/{index}.jpg" for index, identity in enumerate(identities)]
    return pa.table(
        {"identity": pa.array(identities, pa.string()), "source": pa.array(sources, pa.string())}
    )


PHOTOS = _listing(["n000002", "n000002", "n000003", "n000004", "n000005", "n000006"])


def _identities(choice: WantedIdentities) -> list[str]:
    found: list[str] = choice.photos["identity"].to_pylist()
    return found


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_is_read_in_every_spelling(tmp_path: Path, kind: str) -> None:
    text, names = LISTS[kind]
    path = tmp_path / "names.txt"
    path.write_bytes(text.encode())
    assert read_names(path) == names


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "is empty, expected a list of identities, one a line"),
        (b"# nobody\n\n", "names nobody, expected a list of identities"),
        (b"a\n,b\n", "line 2 has no name before its comma: ',b'"),
        (b'a\n\n"",b\n', "line 3 has no name before its comma"),
        (b"a\nAar\xf3n\n", "line 2 holds the byte 0xf3, which is not UTF-8"),
        ("a\n".encode("utf-16"), "is UTF-16 text"),
        (b"\xff\xd8\xff\xe0\x00\x10", "is no UTF-8 text"),
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, raw: bytes, problem: str) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=problem):
        read_names(path)


def test_an_absent_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*names\.txt"):
        read_names(tmp_path / "names.txt")


def test_without_lists_every_photo_is_left() -> None:
    choice = choose_identities(PHOTOS, keep=None, leave_out=None, meta=None)
    assert choice.photos.equals(PHOTOS)
    assert (choice.left_out, choice.unmatched) == ({}, [])


def test_a_leave_out_list_drops_its_identities_and_counts_their_photos() -> None:
    choice = choose_identities(PHOTOS, keep=None, leave_out=["n000002", "n000004"], meta=None)
    assert _identities(choice) == ["n000003", "n000005", "n000006"]
    assert choice.left_out == {IN_LEAVE_OUT_LIST: 3}


def test_a_keep_list_drops_the_others_and_counts_their_photos() -> None:
    choice = choose_identities(PHOTOS, keep=["n000002", "n000004"], leave_out=None, meta=None)
    assert _identities(choice) == ["n000002", "n000002", "n000004"]
    assert choice.left_out == {NOT_IN_KEEP_LIST: 3}


def test_leaving_out_wins_over_keeping() -> None:
    both = ["n000002", "n000003"]
    choice = choose_identities(PHOTOS, keep=both, leave_out=["n000002"], meta=None)
    assert _identities(choice) == ["n000003"]
    assert choice.left_out == {IN_LEAVE_OUT_LIST: 2, NOT_IN_KEEP_LIST: 3}


def test_with_meta_an_entry_names_every_identity_of_that_name() -> None:
    names = ["a fine frenzy", "A J Cook", "Aaron Diaz"]
    choice = choose_identities(PHOTOS, keep=None, leave_out=names, meta=_meta(META))
    assert _identities(choice) == ["n000006"]
    assert choice.unmatched == []


def test_a_folder_of_exactly_that_name_goes_before_a_persons_name() -> None:
    photos = _listing(["AJ_Cook", "n000003"])
    choice = choose_identities(photos, keep=["AJ_Cook"], leave_out=None, meta=_meta(META))
    assert _identities(choice) == ["AJ_Cook"]


def test_folder_names_match_exactly() -> None:
    choice = choose_identities(
        _listing(["AJ_Cook", "100%25"]), keep=None, leave_out=["A_J_Cook", "100%"], meta=None
    )
    assert _identities(choice) == ["AJ_Cook"]  # a listing writes % as %25
    assert choice.unmatched == ["A_J_Cook"]


def test_entries_that_name_nobody_in_the_listing_are_reported_once() -> None:
    choice = choose_identities(
        PHOTOS,
        keep=["zz", "n000002", "Not Listed", "--"],
        leave_out=["zz", "n000009", "n000003"],
        meta=_meta(META),
    )
    assert choice.unmatched == ["zz", "Not Listed", "--", "n000009"]


@pytest.mark.parametrize(
    ("keep", "leave_out", "problem"),
    [
        (
            ["AJ Cook"],
            None,
            r"none of the 1 entries of the keep list, such as 'AJ Cook', .* 'a'; p",
        ),
        ([], None, "none of the 0 entries of the keep list names one of the 2 identities"),
        (None, ["a", "b"], "the leave-out list names all 2 identities"),
        (["a"], ["a"], "the leave-out list names all that the keep list keeps"),
    ],
)
def test_a_choice_that_leaves_no_photo_is_refused(
    keep: list[str] | None, leave_out: list[str] | None, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        choose_identities(_listing(["a", "b"]), keep=keep, leave_out=leave_out, meta=None)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A. J. Cook", "AJ_Cook"),
        ("Pelé", "PELE"),
        ("Jose\u0301", "Jos\u00e9"),
        ("Elyas_M’Barek", "Elyas M'Barek"),
        ("Weiß", "WEISS"),
        ("ﬁona", "Fiona"),
        ("İlker", "ilker"),
    ],
)
def test_spellings_of_one_name_share_a_key(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(("one", "other"), [("Ann", "Anna"), ("A1", "A2"), ("王", "李")])
def test_other_names_have_other_keys(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


def _slow_agree(one: str, other: str) -> bool:
    def letters(name: str) -> list[str]:
        kept = ""
        for char in unicodedata.normalize("NFKD", name):
            if unicodedata.category(char)[0] in "LN":
                kept += char.casefold()
        return list(kept)

    return letters(one) == letters(other) != []


def _slow_choice(
    identities: list[str],
    keep: list[str] | None,
    leave_out: list[str] | None,
    meta: list[tuple[str, str]],
) -> tuple[list[str], dict[str, int], set[str]]:
    def names(entry: str, identity: str) -> bool:
        if entry in identities:
            return entry == identity
        return any(folder == identity and _slow_agree(entry, name) for folder, name in meta)

    left: list[str] = []
    left_out = {IN_LEAVE_OUT_LIST: 0, NOT_IN_KEEP_LIST: 0}
    for identity in identities:
        if any(names(entry, identity) for entry in leave_out or []):
            left_out[IN_LEAVE_OUT_LIST] += 1
        elif keep is not None and not any(names(entry, identity) for entry in keep):
            left_out[NOT_IN_KEEP_LIST] += 1
        else:
            left.append(identity)
    entries = {*(keep or []), *(leave_out or [])}
    unmatched = {e for e in entries if not any(names(e, identity) for identity in identities)}
    return left, {reason: num for reason, num in left_out.items() if num}, unmatched


_FOLDERS = st.sampled_from(["n1", "n2", "n3", "n4", "ab"])
_PEOPLE = st.sampled_from(["A. B.", "ab", "Á_b", "a", "É", "e", "?", "n1", "N 2"])
_ENTRIES = st.none() | st.lists(_FOLDERS | _PEOPLE, max_size=4)


@settings(deadline=None)
@given(
    identities=st.lists(_FOLDERS, min_size=1, max_size=8),
    keep=_ENTRIES,
    leave_out=_ENTRIES,
    meta=st.lists(st.tuples(_FOLDERS, _PEOPLE), max_size=6, unique_by=lambda row: row[0]),
)
def test_choosing_agrees_with_asking_for_each_photo(
    identities: list[str],
    keep: list[str] | None,
    leave_out: list[str] | None,
    meta: list[tuple[str, str]],
) -> None:
    left, left_out, unmatched = _slow_choice(identities, keep, leave_out, meta)
    photos = _listing(identities)
    if not left:
        with pytest.raises(ValueError, match="no photo is left"):
            choose_identities(photos, keep=keep, leave_out=leave_out, meta=_meta(meta))
        return
    choice = choose_identities(photos, keep=keep, leave_out=leave_out, meta=_meta(meta))
    assert _identities(choice) == left
    assert choice.left_out == left_out
    assert set(choice.unmatched) == unmatched
    assert len(choice.unmatched) == len(unmatched)


@pytest.mark.real_data
def test_lfw_lists_read_as_published(real_data: Path) -> None:
    people = read_names(real_data / "lfw_devtrain" / "peopleDevTrain.txt")
    pairs = read_names(real_data / "lfw_devtrain" / "pairsDevTrain.txt")
    assert len(people) == 4_038
    assert set(pairs) < set(people)


@pytest.mark.real_data
def test_lfw_people_are_found_among_vggface2_identities(real_data: Path) -> None:
    meta = read_identity_meta(real_data / "vggface2_meta" / "identity_meta.csv")
    people = read_names(real_data / "lfw_devtrain" / "peopleDevTrain.txt")
    photos = _listing(meta["identity"].to_pylist())
    choice = choose_identities(photos, keep=None, leave_out=people, meta=meta)
    assert choice.left_out == {IN_LEAVE_OUT_LIST: 397}
    assert len(choice.unmatched) == 4_038 - 397
    is_train = dict(zip(*meta.select(["identity", "is_train"]).to_pydict().values(), strict=True))
    assert sum(map(is_train.__getitem__, _identities(choice))) == 8_631 - 376


def test_names_added_to_a_list_of_lfws_count_too(tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_text("2\nAl_Gore\t8\nAnn_Lee\t2\nAdded_Name\nn000106\n")
    assert read_names(tmp_path / "people.txt") == ["Al_Gore", "Ann_Lee", "Added_Name", "n000106"]
