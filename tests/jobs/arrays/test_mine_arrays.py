"""`facequarry mine --embeddings`: files in, a published folder out, or one sentence and nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread

import facequarry.jobs.arrays.mine_arrays
from facequarry.datasets.disk.publish import sha256_file
from facequarry.datasets.generations.generation_files import damaged_files
from facequarry.jobs.arrays.mine_arrays import Arrays, InputChanged, mine_arrays
from facequarry.jobs.cli import main
from facequarry.miner import MinerConfig, mine
from tests.miner.array_files import EMBEDDINGS, LABEL_FILES, LABELS, NAMES, X, npy, parquet, text

FLAGS = ("--miner.threads", "1", "--miner.positives", "random")


def mined(tmp_path: Path, embeddings: Path, labels: Path, *flags: str) -> tuple[int, Path]:
    """Run the command; return its exit code and the folder."""
    out = tmp_path / "out"
    paths = ("--embeddings", str(embeddings), "--labels", str(labels), "--out", str(out))
    return main(["mine", *paths, *FLAGS, *flags]), out


def table_of(out: Path) -> Any:
    return pq.read_table(out / "part-00000.parquet")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return npy(tmp_path / "e.npy", X), npy(tmp_path / "l.npy", LABELS)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_any_file_gives_what_the_function_gives(name: str, tmp_path: Path) -> None:
    labels = LABEL_FILES["text"](tmp_path)
    code, out = mined(tmp_path, EMBEDDINGS[name](tmp_path), labels)
    x = X.astype(np.float16) if "16" in name or "half" in name else X
    config = MinerConfig(threads=1, positives="random")
    assert code == 0
    assert table_of(out).to_pydict() == mine(x, NAMES, config=config).table.to_pydict()


@pytest.mark.parametrize("name", LABEL_FILES)
def test_any_labels_give_the_same_triplets(
    name: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    code, out = mined(tmp_path, files[0], LABEL_FILES[name](tmp_path))
    assert code == 0
    expected = mine(X, LABELS, config=MinerConfig(threads=1, positives="random")).table
    assert table_of(out).to_pydict() == expected.to_pydict()


def test_the_folder_is_whole_and_says_how_it_was_made(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = mined(tmp_path, *files, "--seed", "5", "--miner.margin", "0.3")
    assert code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.json",
        "mining.png",
        "part-00000.parquet",
        "suspects.parquet",
    ]
    manifest = json.loads((out / "manifest.json").read_text())
    assert damaged_files(out, manifest) == []
    assert manifest["inputs"]["embeddings"] == {
        "files": ["e.npy"],
        "sha256": sha256_file(files[0]),
        "shape": [24, 8],
    }
    assert (manifest["seed"], manifest["config"]["margin"]) == (5, 0.3)
    assert manifest["stats"]["observed"]["num_negatives"] > 0
    assert manifest["rows"] == table_of(out).num_rows
    pixels = imread(out / "mining.png")
    assert not (pixels == pixels[0, 0]).all()
    shown = capsys.readouterr().out
    assert "24, 6" in shown and str(out / "part-00000.parquet") in shown


def test_the_same_command_gives_the_same_bytes(files: tuple[Path, Path], tmp_path: Path) -> None:
    parts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        _, out = mined(tmp_path / name, *files, "--seed", "3", "--miner.negatives", "random")
        manifest = json.loads((out / "manifest.json").read_text())
        del manifest["timing"]
        parts.append((manifest, (out / "part-00000.parquet").read_bytes()))
    assert parts[0] == parts[1]


def test_rows_of_any_length_are_mined_once_normalised(tmp_path: Path) -> None:
    labels = npy(tmp_path / "l.npy", LABELS)
    long = npy(tmp_path / "e.npy", X.astype(np.float64) * 7)
    code, out = mined(tmp_path, long, labels, "--normalise")
    assert code == 0
    assert json.loads((out / "manifest.json").read_text())["inputs"]["normalise"] is True


def test_embeddings_and_labels_may_share_a_file(tmp_path: Path) -> None:
    from tests.miner.array_files import lists

    file = parquet(tmp_path / "both.parquet", e=lists(X), f=lists(X), who=NAMES, n=LABELS)
    code, out = mined(tmp_path, file, file, "--column", "e", "--label-column", "who")
    assert code == 0
    confused = json.loads((out / "manifest.json").read_text())["stats"]["observed"]["confused"]
    assert confused[0]["identity_a"] in NAMES


def bad(x: Any = X, labels: Any = LABELS) -> Callable[[Path], tuple[Path, Path]]:
    return lambda folder: (npy(folder / "e.npy", x), npy(folder / "l.npy", labels))


def spoiled(row: int, value: float) -> Any:
    x = X.copy()
    x[row, 0] = value
    return x


BAD: dict[str, tuple[Callable[[Path], tuple[Path, Path]], str]] = {
    "fewer labels": (bad(labels=LABELS[:-1]), "24 embeddings and 23 labels"),
    "more labels": (bad(labels=np.append(LABELS, 1)), "24 embeddings and 25 labels"),
    "NaN": (bad(spoiled(3, np.nan)), "row 3 of embeddings holds NaN or infinity"),
    "infinity": (bad(spoiled(4, np.inf)), "row 4 of embeddings holds NaN or infinity"),
    "beyond float32": (bad(X.astype(np.float64) * 1e300), "holds NaN or infinity"),
    "not unit length": (bad(X * 2), "has norm 2, expected 1"),
    "one identity": (bad(labels=LABELS * 0), "at least two identities"),
    "no pair": (bad(labels=np.arange(24)), "an identity with at least two faces"),
    "one axis": (bad(x=X[0]), "embeddings have two axes"),
    "two axes of labels": (bad(labels=LABELS[:, None]), "labels have one axis"),
    "integers": (bad(x=X.astype(np.int32)), "embeddings are floating-point"),
    "empty": (bad(x=X[:0], labels=LABELS[:0]), "holds no"),
    "pickled": (bad(x=X.astype(object)), "never loaded"),
    "pickled labels": (bad(labels=np.array(NAMES, object)), "never loaded"),
    "float labels": (bad(labels=LABELS * 1.0), "labels are integers or strings"),
    "absent": (lambda d: (d / "absent.npy", npy(d / "l.npy", LABELS)), "there is no"),
    "text": (lambda d: (npy(d / "e.npy", X), text(d / "l.txt", "a\n\n")), "is an empty label"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_leaves_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, sentence = BAD[name]
    inputs = tmp_path / "in"
    inputs.mkdir()
    files = write(inputs)
    code, _ = mined(tmp_path / "deep", *files)
    out, err = capsys.readouterr()
    assert code == 2
    assert sentence in err
    assert out == "" and err.count("facequarry: ") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_rows_that_are_not_unit_length_name_the_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mined(tmp_path, *bad(X * 2)(tmp_path))
    assert "--normalise" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "name a run with --run, or files with --embeddings, --labels and --out"),
        (["--run", "r", "--embeddings", "e"], "name a run with --run, or files"),
        (["--embeddings", "e"], "--labels and --out missing beside --embeddings"),
        (["--embeddings", "e", "--labels", "l"], "--out missing"),
        (["--run", "r", "--out", "o", "--seed", "0"], "--out, --seed goes with --embeddings"),
        (
            ["--embeddings", "e", "--labels", "l", "--out", "o", "--step", "0"],
            "--step goes with --run",
        ),
        (["--embeddings", "e", "--miner.margin", "9"], "margin must lie between 0 and 4"),
        (["--embeddings", "e", "--miner.marign", "1"], "--miner.margin"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    flags: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mine", *flags]) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.count("\n") == 1


def test_a_folder_that_is_not_empty_is_refused_before_anything_is_read(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        facequarry.jobs.arrays.mine_arrays, "read_labels", lambda *_, **__: pytest.fail("read")
    )
    text(tmp_path / "file", "x")
    (tmp_path / "out").mkdir()
    text(tmp_path / "out" / "mine.txt", "x")
    assert mined(tmp_path, *files)[0] == 2
    assert "out is not empty; name a new folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    paths = ("--embeddings", str(files[0]), "--labels", str(files[1]))
    assert main(["mine", *paths, "--out", str(tmp_path / "file")]) == 2
    assert main(["mine", *paths, "--out", str(tmp_path / "file" / "below")]) == 2


def test_an_empty_folder_is_filled(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert mined(tmp_path, *files)[0] == 0


def test_an_index_that_does_not_fit_is_refused(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--miner.engine", "faiss", "--miner.faiss-index", "IVF99,Flat")
    assert mined(tmp_path, *files, *flags)[0] == 2
    assert "has 99 inverted lists, and there are 24" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["mine", "write_tables", "mining_page"])
def test_an_interrupt_leaves_nothing(
    where: str, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    arrays = Arrays(embeddings=(files[0],), labels=(files[1],), out=tmp_path / "out")
    told: dict[str, Any] = {}
    if where == "mine":
        told["mine"] = interrupt
    else:
        monkeypatch.setattr(facequarry.jobs.arrays.mine_arrays, where, interrupt)
    with pytest.raises(KeyboardInterrupt):
        mine_arrays(arrays, **told)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("where", "sentence"),
    [
        (
            "facequarry.jobs.arrays.mine_arrays.read_embeddings",
            "give the embeddings as one .npy file",
        ),
        (
            "facequarry.miner.mining.check_rows",
            "facequarry: mining 24 x 8 embeddings with all of them as",
        ),
        (
            "facequarry.miner.selection.tables.concatenate",
            "set or lower miner.anchors, miner.positives_per_anchor",
        ),
    ],
)
def test_memory_that_runs_out_is_one_sentence_and_leaves_nothing(
    where: str,
    sentence: str,
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(where, fail)
    code, out = mined(tmp_path / "deep", *files)
    err = capsys.readouterr().err
    assert code == 2
    assert sentence in err and "Traceback" not in err
    assert err.count("facequarry: ") == err.count("ran out of memory (Unable to allocate 9") == 1
    assert not out.parent.exists()


def test_an_interrupted_command_says_so(
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(facequarry.jobs.arrays.mine_arrays, "write_tables", interrupt)
    assert mined(tmp_path, *files)[0] == 130
    assert "interrupted; run it again" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_progress_is_shown_where_mining_tells_it(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def telling(x: Any, labels: Any, *, progress: Callable[[int, int], None], **told: Any) -> Any:
        progress(3, 8)
        return mine(x, labels, **told)

    arrays = Arrays(embeddings=(files[0],), labels=(files[1],), out=tmp_path / "out")
    mine_arrays(arrays, mine=telling)
    assert "mine 3/8 products" in capsys.readouterr().err


def test_inputs_that_change_meanwhile_are_not_published(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    def changing(x: Any, labels: Any, **told: Any) -> Any:
        mapped = np.load(files[0], mmap_mode="r+")
        mapped[:] = mapped[::-1].copy()
        mapped.flush()
        os.utime(files[0], ns=(0, 0))
        return mine(x, labels, **told)

    arrays = Arrays(embeddings=(files[0],), labels=(files[1],), out=tmp_path / "out")
    with pytest.raises(InputChanged, match="changed while they were mined; run it again"):
        mine_arrays(arrays, mine=changing)
    assert not (tmp_path / "out").exists()
