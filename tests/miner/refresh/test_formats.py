"""What a run publishes is read by name of nothing of ours: modules may move."""

from __future__ import annotations

import zipfile

import torch

from tests.miner.small_run import SmallRun

PACKAGES = (b"facequarry", b"datasets.", b"trainer.", b"miner.", b"jobs.")


def test_nothing_that_is_published_names_a_module_of_ours(small: SmallRun) -> None:
    small.mine(0)
    files = [path for path in small.run.root.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".json", ".jsonl", ".parquet", ".pt", ".safetensors"}
    for path in files:
        if path.suffix == ".pt":  # an archive: its names, and what it pickles
            with zipfile.ZipFile(path) as archive:
                raw = b"".join(archive.read(name) for name in archive.namelist())
        else:
            raw = path.read_bytes()
        assert not [name for name in PACKAGES if name in raw], path


def test_a_trainers_state_loads_where_nothing_but_weights_may(small: SmallRun) -> None:
    for path in small.run.root.rglob("*.pt"):
        assert torch.load(path, weights_only=True)
