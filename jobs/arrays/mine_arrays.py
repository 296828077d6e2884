"""Mine embeddings and labels from files into a folder: no run, no model, no Ray.

facequarry mine --embeddings E.npy --labels L.npy --out mined
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facequarry.datasets.disk.errors import AlreadyExists, BadInput, Failure
from facequarry.datasets.disk.progress import Progress
from facequarry.datasets.disk.publish import MANIFEST, SCHEMA_VERSION, dump_json, staged_folder
from facequarry.datasets.generations.generation_files import TIMING, write_tables
from facequarry.jobs.arrays.embeddings import files_of, read_embeddings, sha256_of
from facequarry.jobs.arrays.labels import Labels, read_labels
from facequarry.jobs.pictures.mining_page import mining_page
from facequarry.miner.config import MinerConfig
from facequarry.miner.core.memory import explaining_memory
from facequarry.miner.engines.approximate import check_index
from facequarry.miner.mining import Mined, mine

PICTURE = "mining.png"

_MAP_THEM = (
    "give the embeddings as one .npy file of float32 unit rows, which is mapped and not read, or "
    "fewer of them"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrays:
    """What to mine and where to put it."""

    embeddings: tuple[Path, ...]
    labels: tuple[Path, ...]
    out: Path
    column: str | None = None
    label_column: str | None = None
    normalise: bool = False
    seed: int = 0
    config: MinerConfig = field(default_factory=MinerConfig)


class InputChanged(Failure):
    """The files changed while they were mined."""


def mine_arrays(arrays: Arrays, *, mine: Callable[..., Mined] = mine) -> dict[str, Any]:
    """Mine files and publish the triplets; return their manifest.

    The folder appears at once and whole: part-*.parquet, suspects.parquet, manifest.json and a
    picture. Where anything fails before, or is interrupted, nothing is left; a process that is
    killed while it writes leaves a hidden `.staging-` folder beside it, which may be removed.

    Args:
        arrays: which files, which options, which folder.
        mine: `miner.mine`; another one in a test.

    Raises:
        AlreadyExists: the folder exists and is not empty.
        NotFound: a file does not exist.
        BadInput: the files cannot be mined; the sentence says why.
        OutOfMemory: likewise, and what to set.
        InputChanged: another process wrote to the files meanwhile.
    """
    _check_out(arrays.out)
    began = time.perf_counter()
    before = _states(arrays)
    with explaining_memory("reading the embeddings and labels", _MAP_THEM):
        embeddings, labels, files = _read(arrays)
    check_index(arrays.config, embeddings.shape[1], len(embeddings))
    sha256 = {name: sha256_of(paths) for name, paths in files.items()}
    read_s = time.perf_counter() - began
    mined = _mine(mine, embeddings, labels, arrays)
    mine_s = time.perf_counter() - began - read_s
    if _states(arrays) != before:  # a mapped file is read again and again
        raise InputChanged("the embeddings or labels changed while they were mined; run it again")
    with staged_folder(arrays.out) as staging:
        manifest: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            **write_tables(staging, mined.table, mined.suspects),
            "inputs": {
                "embeddings": _input(files["embeddings"], sha256["embeddings"], embeddings),
                "labels": _input(files["labels"], sha256["labels"], labels),
                "column": arrays.column,
                "label_column": arrays.label_column,
                "normalise": arrays.normalise,
            },
            "seed": arrays.seed,
            "config": {k: v for k, v in asdict(arrays.config).items() if k != "threads"},
            "stats": mined.stats.to_dict(),
            TIMING: {
                "read_s": read_s,
                "mine_s": mine_s,
                **mined.stats.timing(),
            },
        }
        (staging / MANIFEST).write_text(dump_json(manifest), encoding="utf-8")
        title = _title(arrays, manifest)
        mining_page([manifest], staging / PICTURE, title=title, item="embedding")
    return manifest


def _states(arrays: Arrays) -> list[tuple[int, int, int]]:
    """Return what changes when an input file does: its inode, size and time of change."""
    states = [path.stat() for path in files_of(arrays.embeddings) + files_of(arrays.labels)]
    return [(state.st_ino, state.st_size, state.st_mtime_ns) for state in states]


def _check_out(out: Path) -> None:
    """Refuse before any work what publishing would refuse after it."""
    if out.is_dir() and any(out.iterdir()):
        raise AlreadyExists(f"{out} is not empty; name a new folder with --out")
    if out.exists() and not out.is_dir():
        raise AlreadyExists(f"{out} is a file; name a new folder with --out")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise BadInput(f"{parent} is no folder that can be written to; name another --out")


def _read(arrays: Arrays) -> tuple[NDArray[np.float32], Labels, dict[str, list[Path]]]:
    files = {"embeddings": files_of(arrays.embeddings), "labels": files_of(arrays.labels)}
    labels = read_labels(files["labels"], column=arrays.label_column)
    with Progress("read", total=None, unit="rows") as progress:
        embeddings = read_embeddings(
            files["embeddings"],
            column=arrays.column,
            normalise=arrays.normalise,
            progress=lambda done, total: progress.update(done, total=total),
        )
    if len(labels) != len(embeddings):
        raise BadInput(
            f"there are {len(embeddings):,} embeddings and {len(labels):,} labels; give one label "
            "for each embedding, in the same order (the first line of a CSV is its header)"
        )
    return embeddings, labels, files


def _mine(
    mine: Callable[..., Mined], embeddings: NDArray[np.float32], labels: Labels, arrays: Arrays
) -> Mined:
    told: dict[str, Any] = {"config": arrays.config, "seed": arrays.seed}
    with Progress("mine", total=None, unit="products") as progress:
        told["progress"] = lambda done, total: progress.update(done, total=total)
        return mine(embeddings, labels, **told)


def _input(files: Sequence[Path], sha256: str, array: NDArray[Any]) -> dict[str, object]:
    return {
        "files": [path.name for path in files],
        "sha256": sha256,
        "shape": list(array.shape),
    }


def _title(arrays: Arrays, manifest: dict[str, Any]) -> str:
    stats = manifest["stats"]
    return (
        f"What was mined: {arrays.embeddings[0].name}, {stats['num_embedded']:,} embeddings of "
        f"{stats['num_identities']:,} labels"
    )
