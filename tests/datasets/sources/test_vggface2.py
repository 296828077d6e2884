"""VGGFace2's csv files: every spelling reads the same, every defect is named with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facequarry.datasets.sources.vggface2 import (
    BOXES_SCHEMA,
    read_boxes,
    read_identity_meta,
    with_boxes,
)
from tests.datasets.csv_files import listing_of, write_csv

BOXES = {"n000002/0001_01": [161, 140, 385, 464], "n000002/0002_01": [-3, 0, 57, 70]}

BOX_SPELLINGS = {
    "published": 'NAME_ID,X,Y,W,H\n"n000002/0001_01",161,140,224,324\n'
    '"n000002/0002_01",-3,0,60,70\n',
    "no header": '"n000002/0001_01",161,140,224,324\n"n000002/0002_01",-3,0,60,70\n',
    "no newline at the end": "n000002/0001_01,161,140,224,324\nn000002/0002_01,-3,0,60,70",
    "CRLF": "NAME_ID,X,Y,W,H\r\nn000002/0001_01,161,140,224,324\r\nn000002/0002_01,-3,0,60,70\r\n",
    "CR": "NAME_ID,X,Y,W,H\rn000002/0001_01,161,140,224,324\rn000002/0002_01,-3,0,60,70\r",
    "spaces": 'NAME_ID, X, Y, W, H\n "n000002/0001_01", 161 ,140, 224,324 \n'
    "n000002/0002_01 , -3,\t0,60,70\n",
    "doubled quotes": '"NAME_ID",X,Y,W,H\n"""n000002/0001_01""",161,140,224,324\n'
    '" ""n000002/0002_01""","-3","0","60","70"\n',
    "byte order mark": "\ufeffNAME_ID,X,Y,W,H\nn000002/0001_01,161,140,224,324\n"
    "n000002/0002_01,-3,0,60,70\n",
    "other order, other columns": "w,h,score,name_id,y,x,\n224,324,.9,n000002/0001_01,140,161,\n"
    "60,70,.8,n000002/0002_01,0,-3,\n",
    "floats": "n000002/0001_01,161.0,1.4e2,224.,324\nn000002/0002_01,-3.0,-0,60,70.00\n",
    "blank lines": "\n  \nNAME_ID,X,Y,W,H\n\nn000002/0001_01,161,140,224,324\n \t\n\r\n"
    "n000002/0002_01,-3,0,60,70\n\n \n",
    "a row twice": "n000002/0001_01,161,140,224,324\nn000002/0002_01,-3,0,60,70\n"
    "n000002/0001_01,161.0,140,224,324\n",
}

GOOD = "n000002/0001_01,161,140,224,324\n"
BAD_BOXES = {
    "NAME_ID,X,Y,W\nn000002/0001_01,161,140,224\n": r"line 1 lacks the column H: 'NAME_ID,X,Y,W'",
    "\nNAME_ID,X,Y,W,X,H\n": "line 2 repeats the column X",
    "NAME_ID,P1X,P1Y\n": "line 1 lacks the column X: .* expected a box csv with NAME_ID,X,Y,W,H",
    GOOD + "\n \nn000002/0002_01,1,2,3\n": r"line 4 has 4 fields, expected 5: 'n000002/0002_01,1,",
    GOOD + "n000002/0002_01,1,2,3,4,5\n": "line 2 has 6 fields, expected 5",
    "one;two;3;4;5\n": "line 1 has 1 fields, expected 5",
    "NAME_ID,X,Y,W,H\n" + GOOD + "\nn/2,1,two,3,4\n": "line 4 has no number as Y: 'two'",
    GOOD + "n000002/0002_01,1,,3,4\n": "line 2 has no number as Y: ''",
    GOOD + "n/2,nan,2,3,4\n": "line 2 has no finite number as X: 'nan'",
    GOOD + "n/2,1,2,3,inf\n": "line 2 has no finite number as H: 'inf'",
    GOOD + "n/2,1,2,1e39,1\n": "line 2 has a box too large",
    GOOD
    + "n/2,1,2,0,4\n": r"line 2 has a box without area, expected W > 0 and H > 0: 'n/2,1,2,0,4'",
    GOOD + "n/2,1,2,3,-4\n": "line 2 has a box without area",
    GOOD + '"",1,2,3,4\n': "line 2 names no photo",
    GOOD + "\n" + GOOD + "n000002/0001_01,161,140,224,325\n": "line 4 has another box than an earl",
    GOOD + '"n/2,1,2,3,4\nn/3,1,2,3,4\n': "line 2 has a quote that is not closed: '\"n/2,1,2,3,4'",
    GOOD + '"n/2,1,2,3,4\nn/3",1,2,3,4\n': "line 2 has a quote that is not closed",
    'NOTE,NAME_ID,X,Y,W,H\nx"y,"n/2\nn/3",1,2,3,4\n': "line 3 has a quote that is not closed",
    'NOTE,NAME_ID,X,Y,W,H\nx"y,"n/2\n""",1,2,3,4\n': "line 3 has a quote",
    'NOTE,NAME_ID,X,Y,W,H\nx"y,"n/2\n"" ",1,2,3,4"\n': "a field that holds a line break",
    "NAME_ID,X,Y,W,H\r\n\r\n": "has no rows, expected a box csv",
    " \n\n": "is empty, expected a box csv",
    "": "is empty, expected a box csv",
}


NOT_TEXT = {
    "UTF-16": ("NAME_ID,X,Y,W,H\n".encode("utf-16"), "is UTF-16 text, .* save the file as UTF-8"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), "is no UTF-8 text"),
    "Latin-1": (
        b"n1,A,3,1,m\r\nn2,Aar\xf3n,3,1,m\r\n",
        "line 2 holds the byte 0xf3, which is not UTF-8",
    ),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00", r"starts with the bytes 1f 8b 08 00"),
    "zeros at the end": (GOOD.encode() * 200 + b"\0\0\0", "line 201 holds a NUL byte"),
    "JPEG": (cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes(), "ff d8 ff e0"),
    "PNG": (cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes(), "is no UTF-8 text"),
    "nothing": (b"", "is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", "is empty"),
}


def _boxes(rows: dict[str, list[float]]) -> pa.Table:
    return pa.table([list(rows), list(rows.values())], schema=BOXES_SCHEMA)


@pytest.mark.parametrize("spelling", BOX_SPELLINGS)
def test_every_spelling_of_a_box_csv_reads_the_same(tmp_path: Path, spelling: str) -> None:
    boxes = read_boxes(write_csv(tmp_path, BOX_SPELLINGS[spelling]))
    assert boxes.schema == BOXES_SCHEMA
    assert dict(zip(*boxes.to_pydict().values(), strict=True)) == BOXES
    assert boxes.num_rows == len(BOXES)


@pytest.mark.parametrize("text", BAD_BOXES)
def test_a_box_csv_that_cannot_be_read_whole_is_refused_with_its_line(
    tmp_path: Path, text: str
) -> None:
    path = write_csv(tmp_path, text)
    with pytest.raises(ValueError, match=BAD_BOXES[text]) as refusal:
        read_boxes(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("reader", [read_boxes, read_identity_meta])
@pytest.mark.parametrize("kind", NOT_TEXT)
def test_a_file_that_is_no_utf8_text_is_refused(
    tmp_path: Path, reader: Callable[[Path], pa.Table], kind: str
) -> None:
    raw, problem = NOT_TEXT[kind]
    path = tmp_path / "some.csv"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=problem):
        reader(path)


@pytest.mark.parametrize("reader", [read_boxes, read_identity_meta])
def test_an_absent_csv_and_a_folder_are_named(
    tmp_path: Path, reader: Callable[[Path], pa.Table]
) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.csv, expected a"):
        reader(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="is a folder, expected a"):
        reader(tmp_path)


def test_a_bad_row_beyond_the_first_block_is_named_by_its_line(tmp_path: Path) -> None:
    lines = [f"n{index:06d}/0001_01,1,2,3,4" for index in range(60_000)]  # two blocks of Arrow's
    lines[55_000] = "n055000/0001_01,1,2,3"
    with pytest.raises(ValueError, match="line 55002 has 4 fields"):
        read_boxes(write_csv(tmp_path, "NAME_ID,X,Y,W,H\n" + "\n".join(lines)))
    lines[55_000] = "n055000/0001_01,1,2,3,x"
    with pytest.raises(ValueError, match="line 55002 has no number as H: 'x'"):
        read_boxes(write_csv(tmp_path, "NAME_ID,X,Y,W,H\n" + "\n".join(lines)))
    lines[7] = '"' + lines[7]
    with pytest.raises(ValueError, match="line 9 has a quote that is not closed"):
        read_boxes(write_csv(tmp_path, "NAME_ID,X,Y,W,H\n" + "\n".join(lines)))


_NAMES = st.text(st.sampled_from("ab01_%é/."), min_size=1, max_size=6)
_SIDES = st.integers(-500, 500) | st.floats(-500, 500, width=32)
_LENGTHS = st.integers(1, 500) | st.floats(0.5, 500, width=32)
_BOX_ROWS = st.dictionaries(_NAMES, st.tuples(_SIDES, _SIDES, _LENGTHS, _LENGTHS), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=_BOX_ROWS, data=st.data())
def test_boxes_survive_any_mix_of_spellings(
    tmp_path: Path, rows: dict[str, tuple[float, ...]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(5)))
    has_header = data.draw(st.booleans()) or order != list(range(5))
    lines = [["NAME_ID", "X", "Y", "W", "H"]] if has_header else []
    lines += [[name, *map(repr, box)] for name, box in rows.items()]
    text = data.draw(st.sampled_from(["", "\ufeff"]))
    for line in lines:
        quotes = [data.draw(st.sampled_from(["{}", '"{}"', '"""{}"""', ' "{}" '])) for _ in line]
        fields = [quote.format(line[at]) for quote, at in zip(quotes, order, strict=True)]
        text += data.draw(st.sampled_from([",", ", ", " ,"])).join(fields)
        text += data.draw(st.sampled_from(["\n", "\r\n", "\n\n", "\r\n  \r\n"]))
    read = read_boxes(write_csv(tmp_path, text)).to_pydict()
    assert read["photo"] == [name.replace("%", "%25") for name in rows]
    for box, (x, y, width, height) in zip(read["box"], rows.values(), strict=True):
        assert box == list(map(np.float32, (x, y, x + width, y + height)))


_SCRAPS = st.sampled_from(
    ['"', '""', ",", "\n", "\r\n", " ", "\t", "a/b", "0", "1", "m", "nan", "é", "\u2028", "#"]
    + ["NAME_ID,X,Y,W,H", "Class_ID,Name,Sample_Num,Flag,Gender", "a/b,1,2,3,4\n", "n1,A,3,1,m\n"]
)


@pytest.mark.parametrize("reader", [read_boxes, read_identity_meta])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(raw=st.lists(_SCRAPS).map(lambda scraps: "".join(scraps).encode()) | st.binary())
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_sentence(
    tmp_path: Path, reader: Callable[[Path], pa.Table], raw: bytes
) -> None:
    path = tmp_path / "some.csv"
    path.write_bytes(raw)
    try:
        table = reader(path)
    except ValueError as refusal:
        assert str(refusal).startswith(str(path))
        assert "\n" not in str(refusal)
    else:
        assert table.num_rows


def test_each_photo_gets_the_box_of_its_row_and_the_others_are_counted() -> None:
    photos = listing_of("a/1.jpg", "a/2.JPEG", "a/3.jpg", "b/1.x.png", "b/2")
    boxes = _boxes(
        {"b/1.x": [1, 2, 3, 4], "a/2": [5, 6, 7, 8], "b/2": [0, 0, 1, 1], "c/1": [9] * 4}
    )
    boxed, num_without = with_boxes(photos, boxes)
    assert boxed["box"].to_pylist() == [None, [5, 6, 7, 8], None, [1, 2, 3, 4], [0, 0, 1, 1]]
    assert num_without == 2
    assert boxed.schema == photos.schema
    assert boxed.drop("box").equals(photos.drop("box"))


def test_a_csv_name_with_its_suffix_goes_to_that_file_alone() -> None:
    photos = listing_of("a/1.jpg", "a/1.png", "a/2.jpg")
    boxed, num_without = with_boxes(photos, _boxes({"a/1.jpg": [1, 2, 3, 4], "a/2": [5, 6, 7, 8]}))
    assert boxed["box"].to_pylist() == [[1, 2, 3, 4], None, [5, 6, 7, 8]]
    assert num_without == 1


def test_a_listing_without_a_box_column_gets_one() -> None:
    boxed, _ = with_boxes(listing_of("a/1.jpg").drop("box"), _boxes({"a/1": [1, 2, 3, 4]}))
    assert boxed["box"].to_pylist() == [[1, 2, 3, 4]]
    assert boxed.column_names == ["identity", "source", "box"]


def test_a_csv_of_other_photos_is_refused_with_a_name_of_each_side() -> None:
    with pytest.raises(ValueError, match=r"none of the 1 photos .* 'a/1\.jpg', .* 'train/a/1'"):
        with_boxes(listing_of("a/1.jpg"), _boxes({"train/a/1": [1, 2, 3, 4]}))


def _slow_with_boxes(sources: list[str], boxes: dict[str, list[float]]) -> list[Any]:
    found = []
    for source in sources:
        folder, slash, file = source.rpartition("/")
        stem = folder + slash + (file.rpartition(".")[0] if "." in file else file)
        found.append(boxes.get(source, boxes.get(stem)))
    return found


_PATHS = st.builds(
    "{}/{}{}".format,
    st.sampled_from(["a", "b.c"]),
    st.sampled_from(["1", "2", "1.2", "é"]),
    st.sampled_from(["", ".jpg", ".PNG"]),
)


@settings(deadline=None)
@given(
    sources=st.lists(_PATHS, max_size=12),
    boxes=st.dictionaries(_PATHS, st.lists(st.integers(0, 99), min_size=4, max_size=4)),
    at=st.integers(0, 12),
)
def test_matching_agrees_with_a_dictionary(
    sources: list[str], boxes: dict[str, list[float]], at: int
) -> None:
    expected = _slow_with_boxes(sources, boxes)
    photos = pa.concat_tables([listing_of(*sources[:at]), listing_of(*sources[at:])])
    if sources and not any(expected):
        with pytest.raises(ValueError, match="has a row in the box csv"):
            with_boxes(photos, _boxes(boxes))
        return
    boxed, num_without = with_boxes(photos, _boxes(boxes))
    assert boxed["box"].to_pylist() == expected
    assert num_without == expected.count(None)
