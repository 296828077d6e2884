"""Make one generation: load, open, choose, embed, mine, pack, write; then publish, or compare.

`mine_into` is the one way from a recipe to files. `make_generation` publishes what it wrote,
`refresh.replay` compares it. Plain Python: the Ray actor that runs it beside training is in
`miner_actor.py`, and `facequarry mine` calls it directly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from facequarry.datasets.disk.fence import FencedLock
from facequarry.datasets.disk.publish import staged_folder
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.generation_files import write_generation
from facequarry.datasets.generations.triplets import mined_snapshot
from facequarry.datasets.runs.events import EventLog
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.datasets.runs.vocabulary import OUTCOMES, names
from facequarry.miner.core.memory import explaining_memory
from facequarry.miner.core.pace import Pace
from facequarry.miner.core.stopwatch import Stopwatch
from facequarry.miner.refresh.budget.budget import Forecast
from facequarry.miner.refresh.budget.rotation import IDENTITIES_FILE
from facequarry.miner.refresh.embedded_part import Chooser, EmbeddedPart
from facequarry.miner.refresh.executors import HERE, Executors
from facequarry.miner.refresh.one_miner import check_turn
from facequarry.miner.refresh.pack import pack
from facequarry.miner.refresh.recipe import Recipe, RefreshPlan
from facequarry.miner.refresh.unit_rows import check_unit_rows
from facequarry.miner.selection.stats import why_no_rows
from facequarry.trainer.batch.run_faces import RunFaces
from facequarry.trainer.checkpoints.checkpoint import load_model

_EMBED_FEWER = (
    "embed fewer of them with refresh.budget = steps or a smaller split.train, or set "
    "miner.device = cpu where a GPU is full"
)
_COUNTS = ("pairs", *names(OUTCOMES), "over_max_uses")

logger = logging.getLogger(__name__)


def make_generation(
    run: RunDir,
    faces: RunFaces,
    plan: RefreshPlan,
    *,
    step: int,
    number: int,
    log: EventLog,
    lock: FencedLock | None = None,
    executors: Executors = HERE,
    clock: Callable[[], float] = time.time,
) -> int:
    """Mine the checkpoint of `step` and publish generation `number`; return its rows.

    Args:
        run: the run directory.
        faces: of the run.
        plan: what every refresh of the run is told.
        step: of the checkpoint.
        number: the generation's.
        log: takes its begin and its end.
        lock: the miner's; looked at first, and again right before the rename that publishes. None
            where nobody else can mine.
        executors: who embeds and searches.
        clock: seconds since the epoch.

    Raises:
        NotFound: the checkpoint is not there (any more), or a snapshot that the
            generations before were mined from.
        CorruptCheckpoint, CheckpointMismatch: its weights cannot be used.
        CannotEmbed: its weights give no embeddings.
        LockLost: another miner took over meanwhile; nothing was published.
        AlreadyPublished: another miner published this number.
    """

    def check() -> None:
        if lock is not None:
            check_turn(run, lock)

    check()
    watch = Stopwatch(clock)
    chooser = None if plan.budget is None else Chooser(run, plan, plan.budget)
    log.write("begin", checkpoint_step=step, generation=number)
    model, checkpoint = load_model(run.checkpoint(step))
    watch.lap("load")
    store = _store_to_mine(run, faces, plan)
    watch.lap("open")
    choice = EmbeddedPart()
    if chooser is not None:
        with explaining_memory("embedding a probe of faces", _EMBED_FEWER):
            choice = chooser.choose(number, store, model, step=step)
    recipe = plan.recipe(store, checkpoint, number=number, rotation=choice.rotation)
    watch.lap("choose")
    token = None if lock is None else lock.token
    try:
        with staged_folder(run.generation(number), before_rename=check) as staging:
            manifest = mine_into(
                staging,
                recipe,
                model,
                store,
                watch=watch,
                token=token,
                planned=choice.forecast,
                executors=executors,
            )
    except Exception:
        check()  # who took over swept what was staged here, and that is the reason then
        raise
    watch.lap("publish")
    rows, stats = int(manifest["rows"]), manifest["stats"]
    found: dict[str, Any] = {name: stats[name] for name in _COUNTS}
    if not rows:
        found["reason"] = why_no_rows(stats)
        logger.warning("generation %d has no rows: %s", number, found["reason"])
    if chooser is not None:
        found |= chooser.outcome(choice)
    log.write(
        "published",
        checkpoint_step=step,
        generation=number,
        snapshot=recipe.snapshot,
        faces=stats["num_embedded"],
        identities=stats["num_identities"],
        new_identities=_num_new_identities(store, faces, recipe),
        rows=rows,
        rows_by_kind=stats["rows_by_kind"],
        anchors=stats["num_anchors"],
        refresh_s=watch.total_s,
        **(found | watch.timing()),
    )
    return rows


def mine_into(
    folder: Path,
    recipe: Recipe,
    model: nn.Module,
    store: FaceStore,
    *,
    watch: Stopwatch,
    token: int | None = None,
    planned: Forecast | None = None,
    executors: Executors = HERE,
) -> dict[str, Any]:
    """Mine what the recipe says and write it as a generation; return its manifest.

    Args:
        folder: it exists, is empty and is not published.
        recipe: what to mine.
        model: the backbone with the recipe's weights.
        store: the recipe's snapshot.
        watch: takes the seconds of embed, mine and pack.
        token: the fencing token of the lock that is held.
        planned: what it should take, to stand beside what it took.
        executors: who embeds and searches; never changes what is written, beside its timing.

    Raises:
        BadInput: there is nothing to mine, or the engine is not there or refuses its index.
        CannotEmbed: the weights give no embeddings; other weights may.
        OutOfMemory: the sentence says what to set.
    """
    from facequarry.miner import mine  # heavy: numba compiles on first use

    face_indices = recipe.faces(store)
    identities = store.identity_index[face_indices]
    with explaining_memory(f"embedding {len(face_indices):,} faces", _EMBED_FEWER):
        embeddings = executors.embed(recipe, model, store, face_indices)
    check_unit_rows(recipe.step, face_indices, embeddings)
    watch.lap("embed")
    # An index is searched here: only the exact search is shared out.
    mined = mine(
        embeddings,
        identities,
        config=recipe.config,
        seed=recipe.seed,
        row_ids=face_indices,
        open_engine=executors.open_engine if recipe.config.engine == "exact" else None,
        progress=Pace("search", "products").reach,
    )
    watch.lap("mine")
    anchors = mined.table["anchor"].to_numpy()
    table = pack(mined.table, store.identity_index[anchors], seed=recipe.seed)
    if recipe.rotation is not None:
        (folder / IDENTITIES_FILE).write_bytes(recipe.rotation.to_bytes())
    watch.lap("pack")
    return write_generation(
        folder,
        table,
        mined.suspects,
        number=recipe.number,
        mined_at_step=recipe.step,
        facts=recipe.facts(mined.stats),
        timing=watch.timing()
        | mined.stats.timing()
        | {"token": token, "made_with": made_with(recipe)}
        | ({} if planned is None else {"forecast": planned.to_dict()}),
    )


def made_with(recipe: Recipe) -> dict[str, object]:
    """Return what may round or write otherwise elsewhere: libraries, processor and threads."""
    faiss = None
    if recipe.config.engine == "faiss":
        from facequarry.miner.engines.faiss_index import import_faiss

        faiss = import_faiss().__version__
    cuda = recipe.config.device == "cuda"
    return {
        "torch": torch.__version__,
        "pyarrow": pa.__version__,
        "faiss": faiss,
        "device": torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability(),
        "embed_threads": torch.get_num_threads(),
    }


def _store_to_mine(run: RunDir, faces: RunFaces, plan: RefreshPlan) -> FaceStore:
    """Return the faces of the newest snapshot, never an older one than was mined before."""
    if plan.snapshots == "pinned":
        return faces.store
    return faces.reach_newest(at_least=mined_snapshot(run) or 0)


def _num_new_identities(store: FaceStore, faces: RunFaces, recipe: Recipe) -> int:
    """Return how many identities are mined that the run's first snapshot does not have."""
    identities = store.identity_index[recipe.faces(store)]
    return len(np.unique(identities[identities >= faces.first.num_identities]))
