"""A refresh shared out over Ray actors: some embed, some search, and the bytes stay the same.

facequarry mine --run runs/lfw --replay gen=3 --actors 3
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from facequarry.datasets.actors.pool import ActorPool, actor_pool, put, resources
from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.store import FaceStore
from facequarry.miner.config import MinerConfig
from facequarry.miner.core.memory import is_out_of_memory
from facequarry.miner.core.pace import Pace
from facequarry.miner.core.search import Workers
from facequarry.miner.kernels.layout import Rows
from facequarry.miner.refresh.executors import Executors, embed_faces
from facequarry.miner.refresh.recipe import Recipe
from facequarry.miner.refresh.unit_rows import check_unit_rows
from facequarry.miner.selection.rows import writable
from facequarry.miner.spread.spread import (
    Answer,
    Limits,
    Part,
    Span,
    SpreadSearch,
    Task,
    choose_num_blocks,
    cut_blocks,
)
from facequarry.miner.spread.task_miner import TaskMiner
from facequarry.trainer.batch.run_faces import FacesAt

EMBED_BLOCK = 1024
"""Faces that one embedder takes at a time. Whole batches of `network.embed`, so that every face
meets the same batch, and so the same roundings, as in one process."""

_GIB = 1 << 30

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedExecutors:
    """Who shares a refresh. Embedders have ended when miners start: they reserve in turn.

    Attributes:
        at: where the faces are, on every node.
        embed_actors: actors that embed; 1: the process that asks does it by itself.
        miner_actors: actors that search, likewise.
        cpus: CPUs that each of them reserves, and its threads, at least one.
    """

    at: FacesAt
    embed_actors: int
    miner_actors: int
    cpus: float

    def executors(self) -> Executors:
        """Return the executors that do so."""
        return Executors(
            embed=self.embed if self.embed_actors > 1 else embed_faces,
            open_engine=self.open_engine if self.miner_actors > 1 else None,
        )

    def embed(
        self,
        recipe: Recipe,
        model: nn.Module,
        store: FaceStore,
        face_indices: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        """Embed faces as `embed_faces` does, block by block.

        Raises:
            CannotEmbed: an embedding is no unit row, said as soon as its block is there.
            WorkersDied, TimedOut, RuntimeError, MemoryError, OSError: as `ActorPool.each`.
        """
        if len(face_indices) <= EMBED_BLOCK:
            return embed_faces(recipe, model, store, face_indices)
        starts = range(0, len(face_indices), EMBED_BLOCK)
        on_gpu = recipe.config.device == "cuda"
        num_actors = min(self.embed_actors, len(starts))
        if on_gpu:
            num_actors = max(1, min(num_actors, int(resources("cluster").get("GPU", 0))))
        weights = put(model.to("cpu"))
        told = (recipe, weights, self.at, store.manifest.number, self._threads(None))
        pace = Pace("embed", "faces", len(face_indices))
        embeddings = [np.empty((0, 0), np.float32)] * len(starts)
        with actor_pool(
            "embedding actor",
            EmbedActor,
            num_actors,
            lambda seat: told,
            num_cpus=self.cpus,
            num_gpus=float(on_gpu),
            is_memory=is_out_of_memory,
        ) as pool:
            blocks = pool.each(
                starts,
                lambda actor, _, start: actor.embed.remote(
                    face_indices[start : start + EMBED_BLOCK]
                ),
            )
            for start, rows in blocks:
                check_unit_rows(recipe.step, face_indices[start : start + EMBED_BLOCK], rows)
                embeddings[start // EMBED_BLOCK] = rows
                pace.add(len(rows))
        return np.concatenate(embeddings)

    @contextlib.contextmanager
    def open_engine(
        self, rows: Rows, config: MinerConfig, workers: Workers
    ) -> Iterator[SpreadSearch]:
        """Open an exact engine whose searches the miners share.

        Raises:
            BadInput: the gallery does not fit Ray's object store.
        """
        spans = cut_blocks(rows.first, choose_num_blocks(rows.ids.size, self.miner_actors))
        gib = sum(column.nbytes for column in rows) / _GIB
        _check_fits(gib)
        arguments = (spans, self._threads(config.threads), put(rows))
        num_miners = min(self.miner_actors, len(spans))
        with actor_pool(
            "miner actor",
            MineActor,
            num_miners,
            lambda seat: arguments,
            num_cpus=self.cpus,
            is_memory=is_out_of_memory,
        ) as pool:
            logger.info(
                "%d miner actors of %d threads share the search | gallery %.2f GiB",
                num_miners,
                self._threads(config.threads),
                gib,
            )
            yield SpreadSearch(rows, spans, MineActors(pool))

    def _threads(self, wanted: int | None) -> int:
        return wanted or max(1, int(self.cpus))


class EmbedActor:
    """Embeds blocks of faces with one checkpoint's weights."""

    def __init__(
        self, recipe: Recipe, model: nn.Module, at: FacesAt, snapshot: int, threads: int
    ) -> None:
        self._recipe = recipe
        self._model = model
        self._at = at
        self._snapshot = snapshot
        self._threads = threads

    def ready(self) -> None:
        """Open the faces, and answer."""
        torch.set_num_threads(self._threads)
        self._store = self._at.open(self._snapshot)

    def embed(self, face_indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Embed one block."""
        return embed_faces(self._recipe, self._model, self._store, face_indices)


class MineActor:
    """A `TaskMiner` as an actor."""

    def __init__(self, spans: Sequence[Span], threads: int, rows: Rows) -> None:
        self._spans = spans
        self._threads = threads
        self._rows = rows

    def ready(self) -> None:
        """Take what it holds, and answer."""
        torch.set_num_threads(self._threads)
        x, ids, first, last, norms2 = self._rows
        rows = Rows(writable(x), writable(ids), writable(first), writable(last), writable(norms2))
        self._miner = TaskMiner(self._spans, rows, self._threads)

    def answer(self, task: Task, limits: Limits, *parts: Part) -> Answer:
        """Search between the blocks of a task.

        Args:
            task: the pair of blocks.
            limits: of its searches.
            parts: of the task's blocks.
        """
        return self._miner.answer(task, limits, parts)


class MineActors:
    """The miners of a `SpreadSearch`, as actors of a pool.

    Args:
        pool: of `MineActor`.
    """

    def __init__(self, pool: ActorPool[Task]) -> None:
        self._pool = pool

    def answers(
        self, tasks: Sequence[Task], parts: Sequence[Part], limits: Callable[[Task], Limits]
    ) -> Iterator[tuple[Task, Answer]]:
        """Yield each task once with its answer (see `spread.Miners`)."""
        put_parts = [put(part) for part in parts]

        def ask(actor: Any, seat: int, task: Task) -> Any:
            return actor.answer.remote(
                task, limits(task), *(put_parts[block] for block in task.blocks)
            )

        # A task given out later has tighter limits, and less to find.
        yield from self._pool.each(tasks, ask, tasks_in_hand=1)


def _check_fits(gib: float) -> None:
    store_gib = resources("cluster").get("object_store_memory", 0.0) / _GIB
    if gib > store_gib:
        raise BadInput(
            f"the gallery takes {gib:.2g} GiB, Ray's object store has {store_gib:.2g}; raise "
            "cluster.object_store_gib"
        )
