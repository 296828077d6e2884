"""Embeddings and labels from every kind of file, and from damaged ones."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.jobs.arrays.embeddings import files_of, read_embeddings, sha256_of
from facequarry.jobs.arrays.labels import read_labels
from tests.miner.array_files import EMBEDDINGS, LABEL_FILES, LABELS, NAMES, X, lists, npy, parquet
from tests.miner.array_files import text as write_text


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_are_read_as_float32_rows(name: str, tmp_path: Path) -> None:
    found = read_embeddings(files_of([EMBEDDINGS[name](tmp_path)]))
    assert found.dtype == np.float32 and found.shape == X.shape and found.flags.c_contiguous
    expected = X.astype(np.float16).astype(np.float32) if "16" in name or "half" in name else X
    assert np.array_equal(found, expected)


def test_float32_files_are_mapped_and_not_read(tmp_path: Path) -> None:
    found = read_embeddings([npy(tmp_path / "e.npy", X)])
    assert isinstance(found, np.memmap) and not found.flags.writeable


def test_several_files_are_put_one_after_the_other(tmp_path: Path) -> None:
    files = [npy(tmp_path / "z.npy", X[:5]), parquet(tmp_path / "a.parquet", e=lists(X[5:]))]
    told: list[tuple[int, int]] = []
    found = read_embeddings(files, progress=lambda done, total: told.append((done, total)))
    assert np.array_equal(found, X)
    assert told == [(5, len(X)), (len(X), len(X))]


def test_a_column_is_chosen_by_name(tmp_path: Path) -> None:
    file = parquet(tmp_path / "e.parquet", a=lists(X), b=lists(-X), w=[1] * len(X), v=[2] * len(X))
    assert np.array_equal(read_embeddings([file], column="b"), -X)
    assert read_labels([file], column="v").tolist() == [2] * len(X)


@given(st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4))
def test_normalising_brings_rows_to_unit_length(
    tmp_path_factory: pytest.TempPathFactory, scales: list[float]
) -> None:
    file = npy(tmp_path_factory.mktemp("e") / "e.npy", X[:4] * np.array(scales)[:, None])
    norms = np.linalg.norm(read_embeddings([file], normalise=True).astype(np.float64), axis=1)
    assert np.allclose(norms, 1, atol=1e-6)


@pytest.mark.parametrize("name", LABEL_FILES)
def test_labels_tell_the_same_rows_apart(name: str, tmp_path: Path) -> None:
    found = read_labels([LABEL_FILES[name](tmp_path)])
    assert np.array_equal(found[:, None] == found, LABELS[:, None] == LABELS)


def test_labels_in_csv_and_text_stay_as_written(tmp_path: Path) -> None:
    labels = ["007", "7", " 7", "null", "NA", "a\u2028b"]
    csv = write_text(tmp_path / "l.csv", "\n".join(["who", *labels]) + "\n")
    lines = write_text(tmp_path / "l.txt", "\n".join(labels) + "\n")
    assert read_labels([csv]).tolist() == read_labels([lines]).tolist() == labels


def test_several_label_files_are_put_one_after_the_other(tmp_path: Path) -> None:
    lines = write_text(tmp_path / "l.txt", "a\nb\n")
    found = read_labels([lines, npy(tmp_path / "l.npy", np.array(["c"]))])
    assert found.tolist() == ["a", "b", "c"]


def test_the_digest_of_several_files_depends_on_their_order(tmp_path: Path) -> None:
    one, two = write_text(tmp_path / "1", "a"), write_text(tmp_path / "2", "b")
    assert sha256_of([one, two]) != sha256_of([two, one])
    assert len(sha256_of([one])) == 64


BAD_EMBEDDINGS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty file": (lambda d: write_text(d / "e.npy", ""), "e.npy is empty"),
    "no rows": (lambda d: npy(d / "e.npy", X[:0]), "e.npy holds no rows"),
    "no columns": (lambda d: npy(d / "e.npy", X[:, :0]), "e.npy holds (no rows|.* of no value)"),
    "pickled": (lambda d: npy(d / "e.npy", X.astype(object)), "never loaded"),
    "noise": (lambda d: write_text(d / "e.npy", "x" * 200), "e.npy is no .npy file"),
    "plain pickle": (lambda d: _bytes(d / "e.npy", pickle.dumps(X)), "e.npy is no .npy file"),
    "several arrays": (lambda d: _npz(d / "e.npy"), "e.npy is no .npy file"),
    "cut short": (
        lambda d: _cut(npy(d / "e.npy", X)),
        "e.npy is no whole .npy file",
    ),
    "one axis": (lambda d: npy(d / "e.npy", X[0]), r"shape \(8,\), embeddings have two axes"),
    "three axes": (lambda d: npy(d / "e.npy", X[None]), r"shape \(1, 24, 8\)"),
    "no axis": (lambda d: npy(d / "e.npy", np.array(3.0)), r"shape \(\)"),
    "integers": (lambda d: npy(d / "e.npy", LABELS[:, None]), "holds int64, embeddings are float"),
    "complex": (lambda d: npy(d / "e.npy", X.astype(complex)), "holds complex128"),
    "other suffix": (lambda d: write_text(d / "e.csv", "1"), "no .npy and no .parquet file"),
    "no parquet": (lambda d: write_text(d / "e.parquet", "x" * 99), "no whole Parquet file"),
    "empty parquet file": (lambda d: write_text(d / "e.parquet", ""), "no whole Parquet file"),
    "no rows in parquet": (lambda d: parquet(d / "e.parquet", e=lists(X[:0])), "holds no rows"),
    "no list column": (
        lambda d: parquet(d / "e.parquet", n=[1], s=["x"]),
        r"no column of lists of floats; its columns are n \(int64\), s \(string\)",
    ),
    "lists of integers": (
        lambda d: parquet(d / "e.parquet", e=[[1, 2]]),
        "no column of lists of floats",
    ),
    "two list columns": (
        lambda d: parquet(d / "e.parquet", a=lists(X), b=lists(X)),
        r"several columns of lists of floats \(a, b\); name one by --column",
    ),
    "uneven lists": (
        lambda d: parquet(d / "e.parquet", e=[[1.0, 0.0], [1.0]]),
        "row 1 of column 'e' of .* is a list of 1 values, expected 2 values",
    ),
    "a row is null": (
        lambda d: parquet(d / "e.parquet", e=[[1.0, 0.0]] * 8 + [None]),
        "row 8 of column 'e' of .* is null, expected 2 values",
    ),
    "a value is null": (
        lambda d: parquet(d / "e.parquet", e=[[1.0, 0.0], [None, 1.0]]),
        "row 1 of column 'e' of .* holds a null",
    ),
    "first row is empty": (lambda d: parquet(d / "e.parquet", e=[[], [1.0]]), "of no value"),
    "folder without parquet": (lambda d: d, "holds no .parquet file"),
}


def _npz(path: Path) -> Path:
    with path.open("wb") as file:
        np.savez(file, X)
    return path


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-40])
    return path


@pytest.mark.parametrize("name", BAD_EMBEDDINGS)
def test_bad_embeddings_are_one_sentence(name: str, tmp_path: Path) -> None:
    write, sentence = BAD_EMBEDDINGS[name]
    with pytest.raises(ValueError, match=sentence) as raised:
        read_embeddings(files_of([write(tmp_path)]))
    assert "\n" not in str(raised.value)


BAD_LABELS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty text": (lambda d: write_text(d / "l.txt", ""), "l.txt is empty"),
    "empty line": (lambda d: write_text(d / "l.txt", "a\n\nb\n"), "line 2 of .* is an empty label"),
    "empty string": (
        lambda d: npy(d / "l.npy", np.array(["a", " ", "b"])),
        "row 1 of .* is an empty label",
    ),
    "no text": (lambda d: _bytes(d / "l.txt", b"\xff\xfe\x00"), "no text in UTF-8"),
    "empty npy": (lambda d: write_text(d / "l.npy", ""), "l.npy is empty"),
    "pickled": (lambda d: npy(d / "l.npy", np.array(NAMES, object)), "never loaded"),
    "floats": (lambda d: npy(d / "l.npy", LABELS.astype(float)), "holds float64, labels are int"),
    "two axes": (lambda d: npy(d / "l.npy", LABELS[:, None]), r"shape \(24, 1\), labels have one"),
    "null": (
        lambda d: parquet(d / "l.parquet", who=["a", None]),
        "row 1 of column 'who' of .* is null",
    ),
    "two columns": (
        lambda d: parquet(d / "l.parquet", who=NAMES, place=NAMES),
        r"several columns of integers or strings \(who, place\); name one by --label-column",
    ),
    "two columns in csv": (
        lambda d: write_text(d / "l.csv", "who,place\na,b\n"),
        r"several columns of labels \(who, place\); name one by --label-column",
    ),
    "empty csv": (lambda d: write_text(d / "l.csv", ""), "no CSV with a header line"),
    "csv without rows": (lambda d: write_text(d / "l.csv", "who\n"), "holds no labels"),
    "uneven csv": (
        lambda d: write_text(d / "l.csv", "who\na\nb,c\n"),
        "does not parse as CSV|no CSV",
    ),
    "empty field": (lambda d: write_text(d / "l.csv", 'who\na\n""\n'), "row of column 'who' 1 of"),
    "no parquet": (lambda d: write_text(d / "l.parquet", "x"), "no whole Parquet file"),
}


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", BAD_LABELS)
def test_bad_labels_are_one_sentence(name: str, tmp_path: Path) -> None:
    write, sentence = BAD_LABELS[name]
    with pytest.raises(ValueError, match=sentence) as raised:
        read_labels([write(tmp_path)])
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    wide, narrow = npy(tmp_path / "w.npy", X), npy(tmp_path / "n.npy", X[:, :4])
    with pytest.raises(ValueError, match="n.npy has embeddings of 4 values, .*w.npy of 8"):
        read_embeddings([wide, narrow])
    with pytest.raises(ValueError, match="--column is for Parquet files"):
        read_embeddings([wide], column="e")
    with pytest.raises(ValueError, match="--label-column is for Parquet and CSV files"):
        read_labels([wide], column="e")
    with pytest.raises(ValueError, match="has no column 'x'; its columns are e"):
        read_embeddings([parquet(tmp_path / "e.parquet", e=lists(X))], column="x")
    with pytest.raises(ValueError, match="column 'n' of .* is int64, expected lists of floats"):
        read_embeddings([parquet(tmp_path / "n.parquet", n=[1])], column="n")
    integers, lines = npy(tmp_path / "l.npy", LABELS), write_text(tmp_path / "l.txt", "a\n")
    with pytest.raises(ValueError, match="hold integers and others strings"):
        read_labels([integers, lines])
    with pytest.raises(ValueError, match="row 2 of the embeddings is all zeros"):
        read_embeddings(
            [npy(tmp_path / "z.npy", X * (np.arange(24) != 2)[:, None])], normalise=True
        )
