"""A FAISS index of the gallery: checked, trained, filled and, where asked for, moved to GPUs.

Apart from `engines.approximate`, which searches it. What moves an index to GPUs is one call of
FAISS; it is tested with a module that stands in for faiss-gpu and has not been run on hardware.
"""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from facequarry.datasets.disk.errors import BadInput, NotInstalled
from facequarry.miner.config import FaissGpus, MinerConfig
from facequarry.miner.core.hashing import TRAINING, hash_state
from facequarry.miner.core.memory import OutOfMemory
from facequarry.miner.kernels.layout import Float32Array, Rows


def import_faiss() -> ModuleType:
    """Return the faiss module.

    Raises:
        NotInstalled: it is not there; the sentence says how to get it.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise NotInstalled(
            "engine = faiss needs FAISS, which is not installed; "
            "try: pip install 'facequarry[cpu]', or set engine = exact"
        ) from error


def check_index(config: MinerConfig, dimension: int, num_rows: int | None = None) -> None:
    """Refuse an index that FAISS would refuse; takes milliseconds.

    Args:
        config: nothing is checked where its engine never takes an index.
        dimension: D of the embeddings.
        num_rows: of the gallery; None where it is not known yet, and then what depends on it, such
            as more inverted lists than rows, shows at mining.

    Raises:
        NotInstalled: FAISS is needed and not there.
        BadInput: FAISS refuses the factory string, nprobe does not fit the index, or it has more
            inverted lists than there are rows to train them with.
    """
    if config.engine in ("exact", "routed"):
        return
    if config.engine == "auto" and config.faiss_index == "Flat":
        return
    faiss = import_faiss()
    index = _empty_index(faiss, dimension, config)
    lists = faiss.try_extract_index_ivf(index)
    # With auto a small gallery is searched exactly, and no index is made.
    if config.engine == "faiss" and num_rows is not None and lists is not None:
        if lists.nlist > num_rows:
            raise BadInput(
                f"miner.faiss_index {config.faiss_index} has {lists.nlist} inverted lists, and "
                f"there are {num_rows} faces to train them with; give {num_rows} or fewer"
            )


def build_index(faiss: Any, rows: Rows, config: MinerConfig, seed: int) -> Any:
    """Return the index of the gallery, on the CPU.

    Raises:
        BadInput: FAISS refuses the factory string or cannot train the index with so few rows.
        OutOfMemory: the index does not fit.
    """
    index = _empty_index(faiss, rows.x.shape[1], config)
    with _in_our_words(config, rows.x.shape[1], len(rows.x)):
        if not index.is_trained:
            index.train(_training_rows(rows, config.train_rows, seed))
        index.add(rows.x)
    return index


def to_gpus(faiss: Any, index: Any, how: FaissGpus) -> Any:
    """Return the index on all GPUs that FAISS sees, or as it is.

    Args:
        faiss: the module.
        index: a filled index.
        how: none, a copy on each (replicas) or a part on each (shards).

    Raises:
        BadInput: FAISS sees no GPU.
        OutOfMemory: the index does not fit.
    """
    if how == "none":
        return index
    if faiss.get_num_gpus() < 1:
        raise BadInput(
            f"faiss_gpus is {how}, and FAISS sees no GPU here; install faiss-gpu where there is "
            "one, or set faiss_gpus = none"
        )
    options = faiss.GpuMultipleClonerOptions()
    options.shard = how == "shards"
    try:
        return faiss.index_cpu_to_all_gpus(index, co=options)
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise OutOfMemory(
            "the FAISS index does not fit on the GPUs; set faiss_gpus = shards, or take a "
            "compressed faiss_index such as IVF4096,PQ32"
        ) from error


def _training_rows(rows: Rows, count: int | None, seed: int) -> Float32Array:
    """Return the rows with the smallest hash(seed, id), by row."""
    if count is None or count >= len(rows.x):
        return rows.x
    state = hash_state(seed, TRAINING, rows.ids)
    return rows.x[np.sort(np.argpartition(state, count)[:count])]


def _empty_index(faiss: Any, dimension: int, config: MinerConfig) -> Any:
    name = config.faiss_index
    with _in_our_words(config, dimension):
        index = faiss.index_factory(dimension, name, faiss.METRIC_L2)
        lists = faiss.try_extract_index_ivf(index)
    if "IDMap" in name:
        raise BadInput(f"faiss_index = {name!r} numbers rows by itself; leave out IDMap")
    if lists is not None and lists.nlist < 1:
        raise BadInput(f"faiss_index = {name!r} has no inverted list; give it one or more")
    if lists is not None and (config.train_rows or lists.nlist) < lists.nlist:
        raise BadInput(
            f"train_rows is {config.train_rows}, but {name} has {lists.nlist} inverted lists to "
            f"train; give {lists.nlist} or more"
        )
    if config.nprobe is not None:
        if lists is None:
            raise BadInput(f"nprobe is set, but {name} has no inverted lists; leave it out")
        if config.nprobe > lists.nlist:
            raise BadInput(
                f"nprobe is {config.nprobe}, but {name} has {lists.nlist} inverted lists; give "
                f"{lists.nlist} or fewer"
            )
        lists.nprobe = config.nprobe
    return index


_CPP_PLACE = re.compile(r"^Error in .* at \S+:\d+: ")


@contextlib.contextmanager
def _in_our_words(
    config: MinerConfig, dimension: int, num_rows: int | None = None
) -> Iterator[None]:
    """Turn what FAISS raises into a BadInput that names the setting."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(
            f"out of memory building faiss_index = {config.faiss_index!r}; take a compressed one "
            "such as IVF4096,PQ32, set anchors and embed fewer identities, or set engine = exact"
        ) from error
    except RuntimeError as error:
        # FAISS prefixes its sentences with the C++ function and source file.
        reason = _CPP_PLACE.sub("", str(error).splitlines()[0].split("Error: ")[-1])
        rows = "rows" if num_rows is None else f"{num_rows} rows"
        raise BadInput(
            f"FAISS refuses faiss_index = {config.faiss_index!r} for {rows} of {dimension} "
            f"values: {reason}"
        ) from error


def looks_at_all(faiss: Any, index: Any) -> bool:
    """Say whether every row is compared with every anchor, at its uncompressed value."""
    index = faiss.downcast_index(index)
    # By exact type: subclasses keep compressed or refined copies, whose distances prove nothing.
    match type(index).__name__:
        case "IndexFlat" | "IndexFlatL2":
            return True
        case "IndexIVFFlat":
            # A coarse quantiser that skips lists itself may leave some out at any nprobe.
            is_flat = type(faiss.downcast_index(index.quantizer)).__name__.startswith("IndexFlat")
            return bool(is_flat and index.nprobe >= index.nlist)
    return False
