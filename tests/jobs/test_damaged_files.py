"""What a command says of files that are damaged: one sentence, whose fault, nothing half written.

Tables of neighbours: each verb that reads a user's file, times what may have become of the file.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from facequarry.datasets.disk.errors import exit_code_of
from facequarry.datasets.disk.publish import write_json
from facequarry.datasets.faces.snapshots import snapshot_folder
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs import cli
from facequarry.miner.queue.journal import Journal
from facequarry.trainer.checkpoints.checkpoint import publish_checkpoint
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.network.backbones import build_backbone
from tests.jobs.small_runs import train_run
from tests.miner.small_run import checkpoint_of

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda raw: None,
    "empty": lambda raw: b"",
    "cut off": lambda raw: raw[: len(raw) // 2],
    "something else": lambda raw: bytes(range(256)) * 2,
}
TRAINER = TrainerConfig(embedding_dim=8, steps=4, batch=8, checkpoint_every=4)

Says = Callable[..., str]


@pytest.fixture
def says(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> Says:
    """Run a command; check that it ends as it must and left nothing staged, return what it says."""

    def run(*words: object, code: int = 2) -> str:
        found = cli.main([str(word) for word in words])
        *progress, sentence = capsys.readouterr().err.strip().splitlines()
        defects = [r.exc_text or r.message for r in caplog.records if r.name == cli.logger.name]
        assert not defects, defects
        assert found == code, sentence
        assert sentence.startswith("facequarry: ")
        assert not any(line.startswith("facequarry: ") for line in progress)
        assert [*tmp_path.rglob(".staging-*")] == []
        return sentence

    return run


def damage(path: Path, how: str) -> None:
    left = DAMAGES[how](path.read_bytes())
    path.unlink() if left is None else path.write_bytes(left)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arrays")
    rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [f"person {number // 5}" for number in range(40)]
    np.save(folder / "rows.npy", rows)
    np.save(folder / "names.npy", np.array(names))
    table = pa.table({"row": rows.tolist(), "name": names})
    pq.write_table(table, folder / "table.parquet", compression="zstd")
    (folder / "names.csv").write_text("name\n" + "".join(f"{name}\n" for name in names))
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize(
    ("embeddings", "labels", "damaged"),
    [
        ("rows.npy", "names.npy", "rows.npy"),
        ("rows.npy", "names.npy", "names.npy"),
        ("table.parquet", "table.parquet", "table.parquet"),
        ("rows.npy", "names.csv", "names.csv"),
        ("rows.npy", "names.txt", "names.txt"),
    ],
)
def test_damaged_arrays_are_bad_input(
    embeddings: str, labels: str, damaged: str, how: str, arrays: Path, tmp_path: Path, says: Says
) -> None:
    shutil.copytree(arrays, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / damaged, how)
    where = {"--embeddings": embeddings, "--labels": labels, "--out": "out"}
    says("mine", *(word for flag, name in where.items() for word in (flag, tmp_path / name)))
    assert not (tmp_path / "out").exists()


def test_damaged_pages_of_parquet_are_bad_input(arrays: Path, tmp_path: Path, says: Says) -> None:
    """The footer is sound, so the file opens; pyarrow finds out when it reads."""
    path = tmp_path / "table.parquet"
    raw = bytearray((arrays / "table.parquet").read_bytes())
    raw[4:200] = bytes(196)
    path.write_bytes(raw)
    sentence = says("mine", "--embeddings", path, "--labels", path, "--out", tmp_path / "out")
    assert "no whole Parquet file" in sentence


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run with checkpoints 0 and 4 and a generation of the latter, beside its faces."""
    run = train_run(tmp_path_factory.mktemp("trained"), TRAINER)
    assert cli.main(["mine", "--run", str(run.root)]) == 0
    return run


@pytest.fixture
def run(trained: RunDir, tmp_path: Path) -> Iterator[RunDir]:
    """A copy of the run; its faces are shared, and back in place afterwards."""
    faces = trained.root.parent / "faces"
    shutil.copytree(faces, tmp_path / "faces")
    shutil.copytree(trained.root, tmp_path / "run")
    yield RunDir(tmp_path / "run")
    shutil.rmtree(faces)
    shutil.copytree(tmp_path / "faces", faces)


CHECKPOINT = "checkpoints/step=000000004"
GENERATION = "generations/gen=000000"


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize(
    ("verb", "file"),
    [
        (["evaluate"], "config.json"),
        (["mine"], "config.json"),
        (["train"], "config.json"),
        (["evaluate"], "faces.json"),
        (["mine"], f"{CHECKPOINT}/model.safetensors"),
        (["evaluate"], f"{CHECKPOINT}/model.safetensors"),
        (["mine", "--replay", "0"], f"{CHECKPOINT}/model.safetensors"),
        (["mine", "--replay", "0"], f"{GENERATION}/manifest.json"),
    ],
)
def test_a_damaged_file_of_a_run_is_bad_input(
    verb: list[str], file: str, how: str, run: RunDir, says: Says
) -> None:
    if (file, how) == ("faces.json", "gone"):
        pytest.skip("a run that is not opened yet: the newest snapshot is taken")
    damage(run.root / file, how)
    generations = run.generation_numbers()
    says(verb[0], "--run", run.root, *verb[1:])
    assert set(run.generation_numbers()) <= set(generations)


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "gone"])
@pytest.mark.parametrize("verb", ["mine", "evaluate"])
def test_a_damaged_manifest_of_a_checkpoint_is_bad_input(
    verb: str, how: str, run: RunDir, says: Says
) -> None:
    damage(run.checkpoint(4) / "manifest.json", how)
    assert "go on from the checkpoint before it" in says(verb, "--run", run.root)


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "gone"])
@pytest.mark.parametrize("file", ["manifest.json", "identities.parquet"])
@pytest.mark.parametrize("verb", ["mine", "evaluate"])
def test_a_damaged_snapshot_of_the_faces_is_bad_input(
    verb: str, file: str, how: str, trained: RunDir, run: RunDir, says: Says
) -> None:
    damage(snapshot_folder(trained.root.parent / "faces", 1) / file, how)
    says(verb, "--run", run.root)


@pytest.mark.parametrize(
    ("weight", "found"), [(float("nan"), "NaN or infinity"), (0.0, "a row of norm 0")]
)
def test_a_checkpoint_that_embeds_nothing_failed_and_another_may_be_named(
    weight: float, found: str, run: RunDir, says: Says
) -> None:
    """The same command may succeed later: it takes the newest checkpoint."""
    checkpoint_of(run, 8, weight)
    sentence = says("mine", "--run", run.root, code=1)
    assert f"as {found}" in sentence and "take another checkpoint" in sentence
    assert run.generation_numbers() == [0]


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["run.toml", "run.json"])
def test_a_damaged_run_file_is_bad_input(name: str, how: str, tmp_path: Path, says: Says) -> None:
    path = tmp_path / name
    path.write_text('{"name": "x"}' if path.suffix == ".json" else 'name = "x"\n[trainer')
    damage(path, how)
    if path.suffix == ".toml" and how == "empty":
        return  # a run with every setting at its default
    says("run", "--config", path)
    says("submit", "run", "--config", path)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_damaged_first_weights_are_bad_input(
    name: str, how: str, trained: RunDir, tmp_path: Path, says: Says
) -> None:
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save({"a": torch.zeros(3)}, path)
    else:
        shutil.copyfile(trained.checkpoint(4) / "model.safetensors", path)
    damage(path, how)
    faces = trained.root.parent / "faces"
    flags = ["--runs", tmp_path / "runs", "--faces", faces, "--trainer.init-from", path]
    says("run", *flags, "--trainer.embedding-dim", "8")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("how", ["empty", "cut off", "something else"])
@pytest.mark.parametrize("name", ["photos.tar", "photos.tar.gz"])
def test_a_damaged_archive_of_photos_is_bad_input(
    name: str, how: str, tmp_path: Path, says: Says
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(np.random.default_rng(0).bytes(50_000))
    kind = "gztar" if name.endswith("gz") else "tar"
    path = Path(shutil.make_archive(str(tmp_path / "photos"), kind, tmp_path, "a"))
    damage(path, how)
    says("ingest", "--source", path, "--out", tmp_path / "faces")
    assert not (tmp_path / "faces").exists()


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_pairs_file_is_bad_input(
    how: str, run: RunDir, tmp_path: Path, says: Says
) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("1\nn000001 1 2\nn000002 1 2\n")
    damage(path, how)
    says("evaluate", "--run", run.root, "--pairs", path)


def test_a_path_that_is_a_file_or_cannot_be_written_is_bad_input(
    arrays: Path, tmp_path: Path, says: Says
) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    (tmp_path / "photos" / "a" / "1.jpg").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    mine = ["mine", "--embeddings", arrays / "rows.npy", "--labels", arrays / "names.npy", "--out"]
    for out in (tmp_path / "file", tmp_path / "file" / "out", "/proc/out"):
        says(*mine, out)  # root may write into /proc by its rights, and then may not
        says("ingest", "--source", tmp_path / "photos", "--out", out)
    for verb in ("status", "dashboard"):
        says(verb, "--runs", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_damaged_run_does_not_hide_the_others(
    run: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run.root, tmp_path / "sound")
    damage(run.config, "cut off")
    assert cli.main(["status", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "unreadable" in printed and "sound" in printed and "is not valid JSON" in printed


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond a few bytes: the closest that a process can come to a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def _checkpoint(folder: Path) -> None:
    model = build_backbone("compact", 8)
    publish_checkpoint(
        RunDir(folder),
        0,
        model,
        backbone="compact",
        embedding_dim=8,
        crop_px=112,
        trainer_state={"step": 0},
    )


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_json(folder / "x.json", {"name": "x" * 100}),
        lambda folder: EventLog(folder, "miner", attempt=1).write("begin"),
        lambda folder: Journal(folder / "queue.jsonl", batch=1, carry_over=0.0, seed=0),
        _checkpoint,
    ],
    ids=["publish", "events", "journal", "checkpoint"],
)
def test_a_full_disk_failed_and_leaves_nothing(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises((OSError, RuntimeError)) as caught:
        write(tmp_path)
    assert exit_code_of(caught.value) == 1
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 0
    assert [*tmp_path.rglob(".staging-*")] == []


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, 1),
        (errno.EDQUOT, 1),
        (errno.EIO, 1),
        (errno.EMFILE, 1),
        (errno.ETIMEDOUT, 1),
        (errno.ECONNREFUSED, 1),
        (errno.ENOENT, 2),
        (errno.ENOTDIR, 2),
        (errno.EACCES, 2),
        (errno.EROFS, 2),
        (errno.ENAMETOOLONG, 2),
    ],
)
def test_the_operating_system_s_errors_are_judged_by_their_number(number: int, code: int) -> None:
    assert exit_code_of(OSError(number, os.strerror(number))) == code
