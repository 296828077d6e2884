"""Pairs files of both forms, and what is wrong with others in one sentence with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.trainer.evaluation.pairs_file import PhotoName, read_pairs_file
from tests.trainer.pairs_files import Rows, write_pairs


def test_one_set_is_matched_then_mismatched(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "pairs.txt", "1", [("Ann_Lee", 1, 12), ("Ann_Lee", 3, "Bo", 4)])
    pairs = read_pairs_file(path)
    assert pairs.left == (PhotoName("Ann_Lee", 1), PhotoName("Ann_Lee", 3))
    assert pairs.right == (PhotoName("Ann_Lee", 12), PhotoName("Bo", 4))
    assert pairs.is_same.tolist() == [True, False]
    assert pairs.fold_of is None
    assert pairs.right[0].stem == "Ann_Lee/Ann_Lee_0012"


def ten_folds(size: int) -> Rows:
    pairs: Rows = []
    for fold in range(10):
        pairs += [(f"m{fold}", number, number + 1) for number in range(size)]
        pairs += [(f"m{fold}", number, f"n{fold}", number) for number in range(size)]
    return pairs


def test_ten_folds_are_the_files_own(tmp_path: Path) -> None:
    pairs = read_pairs_file(write_pairs(tmp_path / "pairs.txt", "10\t3", ten_folds(3)))
    assert pairs.fold_of is not None
    assert pairs.fold_of.tolist() == np.repeat(np.arange(10), 6).tolist()
    assert pairs.is_same.tolist() == ([True] * 3 + [False] * 3) * 10
    assert pairs.num_in_several_folds == 0


def test_people_in_several_folds_are_counted(tmp_path: Path) -> None:
    rows = ten_folds(2)
    rows[0] = ("m9", 1, 2)
    pairs = read_pairs_file(write_pairs(tmp_path / "pairs.txt", "10\t2", rows))
    assert pairs.num_in_several_folds == 1


def test_crlf_blank_lines_and_a_byte_order_mark_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes(b"\xef\xbb\xbf\r\n1\r\n\r\nAnn\t1\t2\r\n  \r\nAnn\t1\tBo\t1\r\n\r\n")
    assert len(read_pairs_file(path)) == 2


@given(
    st.lists(
        st.text(
            st.characters(
                exclude_characters="\t\n\r/\x00", exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")
            ),
            min_size=1,
        ),
        min_size=2,
        max_size=6,
        unique=True,
    )
)
def test_names_of_any_script_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    rows: Rows = [(name, 1, 2) for name in names]
    rows += [(name, 1, names[position - 1], 1) for position, name in enumerate(names)]
    path = write_pairs(tmp_path_factory.mktemp("names") / "pairs.txt", f"{len(names)}", rows)
    pairs = read_pairs_file(path)
    spelled = [name.replace("%", "%25") for name in names]  # as faces spell them
    assert [photo.identity for photo in pairs.left] == spelled * 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty; expected a header"),
        ("Ann\t1\t2\n", "line 1 is 'Ann.*expected a header"),
        ("0\n", "line 1 is '0', expected a header"),
        ("10\t3\t4\n", "line 1 is .*expected a header"),
        ("-1\n", "line 1 is '-1', expected a header"),
        ("1\nAnn\t1\n", "line 2 is .*expected Name<TAB>1<TAB>2"),
        ("1\nAnn 1 2\n", "line 2 is 'Ann 1 2', expected Name<TAB>1<TAB>2"),
        ("1\nAnn\t1\ttwo\n", "line 2 is .*expected Name"),
        ("1\nAnn\t1\t²\n", "line 2 is .*expected Name"),
        ("1\n../Ann\t1\t2\n", "line 2 is .*expected Name"),
        ("1\n\nAnn\t1\tBo\t1\n", "line 3 is the mismatched pair .* announces a matched one"),
        ("1\nAnn\t1\t2\nAnn\t1\t3\n", "line 3 is the matched pair .* announces a mismatched"),
        ("1\nAnn\t1\t2\n", "has 1 pairs, its header '1' announces 2"),
        ("1\nAnn\t1\t2\nAnn\t1\tBo\t1\nAnn\t1\tBo\t2\n", "line 4: more pairs than the 2"),
        ("1\nAnn\t1\t2\nAnn\t1\tAnn\t2\n", "line 3 is a mismatched pair of one person"),
        ("1\nAnn\t2\t2\n", "line 2 pairs a photo with itself"),
        ("2\t1\nAnn\t1\t2\nAnn\t1\tBo\t2\n", "has 2 pairs, its header '2<TAB>1' announces 4"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(
    tmp_path: Path, text: str, sentence: str
) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=sentence):
        read_pairs_file(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no pairs file"):
        read_pairs_file(tmp_path / "absent.txt")
    (tmp_path / "latin.txt").write_bytes(b"1\nJos\xe9\t1\t2\n")
    with pytest.raises(ValueError, match="no UTF-8 text"):
        read_pairs_file(tmp_path / "latin.txt")


@pytest.mark.real_data
def test_the_development_set_is_read(real_data: Path) -> None:
    pairs = read_pairs_file(real_data / "lfw_devtrain" / "pairsDevTrain.txt")
    assert (len(pairs), int(pairs.is_same.sum())) == (2200, 1100)
    photos = {photo.stem for photo in (*pairs.left, *pairs.right)}
    images = real_data / "lfw_devtrain" / "images"
    assert all((images / f"{stem}.jpg").is_file() for stem in photos)
