"""VGGFace2's csv files: every spelling reads the same, every defect is named with its line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.datasets.sources.vggface2 import (
    IDENTITY_META_SCHEMA,
    MissingPhotos,
    missing_photos,
    read_identity_meta,
)
from tests.datasets.csv_files import listing_of, write_csv

META = [
    {"identity": "n000001", "name": "14th_Dalai_Lama", "num_photos": 424, "is_train": False},
    {"identity": "n000030", "name": "Abdüllatif_Şener", "num_photos": 268, "is_train": True},
    {"identity": "n000040", "name": "Davis, Jr.", "num_photos": 1, "is_train": True},
]


META_ROWS = (
    'n000001," ""14th_Dalai_Lama""",424,0, m\r\nn000030," ""Abdüllatif_Şener""",268,1, f\r\n'
    'n000040," ""Davis, Jr.""",1,1, m\r\n'
)


META_SPELLINGS = {
    "header": "Class_ID, Name, Sample_Num, Flag, Gender\r\n" + META_ROWS,
    "no header": META_ROWS,
    "LF": META_ROWS.replace("\r\n", "\n"),
    "byte order mark": "\ufeff" + META_ROWS,
    "quotes after a space": META_ROWS.replace('" ""', ' "')
    .replace('"""', '"')
    .replace(",1", ", 1"),
    "plain": META_ROWS.replace('," ""14th_Dalai_Lama"""', ",14th_Dalai_Lama"),
    "blank lines": "\n\n" + META_ROWS.replace("\r\n", "\r\n \r\n"),
    "other order": "Flag,Gender,Name,Class_ID,Sample_Num,Notes\n0,m,14th_Dalai_Lama,n000001,424,x\n"
    '1,f,Abdüllatif_Şener,n000030,268,\n1,m,"Davis, Jr.",n000040,1,"a, b"\n',
    "a row twice": META_ROWS + META_ROWS,
}


BAD_META = {
    "Class_ID, Name, Sample_Num, Gender\nn1,A,3,m\n": "line 1 lacks the column FLAG",
    "\nn1,A,3,1,m\n\nn2,B,3,1\n": "line 4 has 4 fields, expected 5: 'n2,B,3,1'",
    "n1,Davis, Jr.,3,1,m\n": "line 1 has 6 fields, .* put a name that holds a comma in quotes",
    'n1,A,3,1,m\nn2,"B,3,1,m\nn3,C,3,1,m\n': "line 2 has 2 fields, expected 5",
    "n1,A,3,1,m\nn2,B,many,1,m\n": "line 2 has no count as Sample_Num: 'many'",
    "n1,A,-3,1,m\n": "line 1 has no count as Sample_Num: '-3'",
    "n1,A,99999999999,1,m\n": "line 1 has no count as Sample_Num",
    "n1,A,3,2,m\n": r"line 1 has no 1 \(train\) or 0 \(test\) as Flag: '2'",
    ",A,3,1,m\n": "line 1 names no identity",
    "n1,A,3,1,m\n\nn1,B,3,1,m\n": "line 3 differs from an earlier row of 'n1'",
    "Class_ID, Name, Sample_Num, Flag, Gender\n": "has no rows, expected an identity csv",
    "n1," + "A" * 140_000 + ",3,1,m\n": "line 1 cannot be read as csv",
}


def _meta(*rows: tuple[str, int, bool]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"identity": identity, "name": "", "num_photos": num, "is_train": train, "gender": ""}
            for identity, num, train in rows
        ],
        schema=IDENTITY_META_SCHEMA,
    )


@pytest.mark.parametrize("spelling", META_SPELLINGS)
def test_every_spelling_of_an_identity_csv_reads_the_same(tmp_path: Path, spelling: str) -> None:
    meta = read_identity_meta(write_csv(tmp_path, META_SPELLINGS[spelling]))
    assert meta.schema == IDENTITY_META_SCHEMA
    assert meta.drop("gender").to_pylist() == META
    assert meta["gender"].to_pylist() == ["m", "f", "m"]


@pytest.mark.parametrize("text", BAD_META)
def test_an_identity_csv_that_cannot_be_read_whole_is_refused_with_its_line(
    tmp_path: Path, text: str
) -> None:
    path = write_csv(tmp_path, text)
    with pytest.raises(ValueError, match=BAD_META[text]) as refusal:
        read_identity_meta(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


@pytest.mark.real_data
def test_both_published_spellings_of_identity_meta_are_one_table(real_data: Path) -> None:
    folder = real_data / "vggface2_meta"
    meta = read_identity_meta(folder / "identity_meta.csv")
    assert meta.equals(read_identity_meta(folder / "identity_meta_noheader.csv"))
    is_train = meta["is_train"].to_numpy()
    num_photos = meta["num_photos"].to_numpy()
    # What the paper says of train/ and test/: so Flag 1 is train.
    assert (is_train.sum(), (~is_train).sum()) == (8_631, 500)
    assert (num_photos[is_train].sum(), num_photos[~is_train].sum()) == (3_141_890, 169_396)
    assert not any(name != name.strip(' "') or not name for name in meta["name"].to_pylist())
    assert set(meta["gender"].to_pylist()) == {"m", "f"}


@pytest.mark.real_data
def test_the_sample_identities_are_short_of_photos(real_data: Path) -> None:
    meta = read_identity_meta(real_data / "vggface2_meta" / "identity_meta.csv")
    root = real_data / "vggface2_sample"
    sample = listing_of(*sorted(str(path.relative_to(root)) for path in root.glob("n*/*.jpg")))
    missing = missing_photos(sample, meta)
    assert (missing.num_short, missing.num_unknown) == (3, 0)
    assert missing.num_absent_train + missing.num_absent_test == 9_128


def test_short_absent_and_unknown_identities_are_counted() -> None:
    meta = _meta(("a", 3, True), ("b", 1, True), ("c", 5, True), ("d", 5, False), ("e", 1, False))
    photos = listing_of("a/1.jpg", "b/1.jpg", "b/2.jpg", "e/1.jpg", "x/1.jpg", "x/2.jpg")
    assert missing_photos(photos, meta) == MissingPhotos(
        num_short=1, num_photos_missing=2, num_absent_train=1, num_absent_test=1, num_unknown=1
    )


@settings(deadline=None)
@given(
    listed=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 4)),
    said=st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 4), st.booleans())),
)
def test_missing_photos_agrees_with_counting_one_by_one(
    listed: dict[str, int], said: dict[str, tuple[int, bool]]
) -> None:
    sources = [f"{identity}/{n}.jpg" for identity, num in listed.items() for n in range(num)]
    short = [num - listed[name] for name, (num, _) in said.items() if 0 < listed.get(name, 0) < num]
    absent = [is_train for name, (_, is_train) in said.items() if name not in listed]
    meta = _meta(*((name, num, is_train) for name, (num, is_train) in said.items()))
    assert missing_photos(listing_of(*sources), meta) == MissingPhotos(
        num_short=len(short),
        num_photos_missing=sum(short),
        num_absent_train=absent.count(True),
        num_absent_test=absent.count(False),
        num_unknown=len(listed.keys() - said.keys()),
    )
