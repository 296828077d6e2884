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

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.store import FaceStore
from facequarry.miner.config import MinerConfig
from facequarry.miner.core.pace import Pace
from facequarry.miner.core.search import Workers
from facequarry.miner.kernels.layout import Rows
from facequarry.miner.refresh.executors import Executors, embed_faces
from facequarry.miner.refresh.recipe import Recipe
from facequarry.miner.refresh.unit_rows import check_unit_rows
from facequarry.miner.selection.rows import writable
from facequarry.miner.spread.actor_pool import ActorPool, actor_pool, put, resources
from facequarry.miner.spread.placement import Placement
from facequarry.miner.spread.row_slices import join_rows
from facequarry.miner.spread.schedule import TASKS_IN_HAND
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
from facequarry.miner.spread.task_miner import Held, TaskMiner
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
        gallery_gib: most that one miner may hold of the gallery, GiB. A larger one is sharded.
    """

    at: FacesAt
    embed_actors: int
    miner_actors: int
    cpus: float
    gallery_gib: float

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
            BadInput: the gallery does not fit the miners, or Ray's object store.
        """
        spans = cut_blocks(rows.first, choose_num_blocks(rows.ids.size, self.miner_actors))
        gib = sum(column.nbytes for column in rows) / _GIB
        placement = Placement(spans, self.miner_actors, sharded=gib > self.gallery_gib)
        self._check_fits(gib, placement)
        whole = None if placement.sharded else put(rows)
        blocks = (
            [put(placement.block(rows, b)) for b in range(len(spans))] if placement.sharded else []
        )

        def arguments(seat: int) -> tuple[Any, ...]:
            held = [whole] if whole else [blocks[block] for block in placement.held_blocks(seat)]
            begin = placement.held_span(seat).begin
            return (spans, begin, self._threads(config.threads), *held)

        with actor_pool(
            "miner actor", MineActor, placement.num_miners, arguments, num_cpus=self.cpus
        ) as pool:
            logger.info(
                "%d miner actors of %d threads share the search | gallery %.2f GiB, %s",
                placement.num_miners,
                self._threads(config.threads),
                gib,
                "a shard each" if placement.sharded else "whole at each",
            )
            yield SpreadSearch(rows, spans, MineActors(pool, placement, blocks))

    def _threads(self, wanted: int | None) -> int:
        return wanted or max(1, int(self.cpus))

    def _check_fits(self, gib: float, placement: Placement) -> None:
        together = placement.num_miners * self.gallery_gib
        if gib > together:
            raise BadInput(
                f"the gallery takes {gib:.2g} GiB, {placement.num_miners} miner actors with "
                f"cluster.gallery_gib = {self.gallery_gib:g} hold {together:.2g}; raise "
                "cluster.gallery_gib or cluster.miner_actors"
            )
        store_gib = resources("cluster").get("object_store_memory", 0.0) / _GIB
        if gib > store_gib:
            raise BadInput(
                f"the gallery takes {gib:.2g} GiB, Ray's object store has {store_gib:.2g}; raise "
                "cluster.object_store_gib"
            )


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

    def __init__(self, spans: Sequence[Span], begin: int, threads: int, *held: Rows) -> None:
        self._spans = spans
        self._begin = begin
        self._threads = threads
        self._held = held

    def ready(self) -> None:
        """Take what it holds, and answer."""
        torch.set_num_threads(self._threads)
        rows = _as_one(self._held)
        self._miner = TaskMiner(self._spans, Held(self._begin, rows), self._threads)
        self._held = ()

    def answer(self, task: Task, limits: Limits, visitors: Sequence[int], *sent: Any) -> Answer:
        """Search between the blocks of a task.

        Args:
            task: the pair of blocks.
            limits: of its searches.
            visitors: the blocks whose rows were sent along.
            sent: the parts of the task's blocks, then the rows of the visitors.
        """
        num_parts = len(task.blocks)
        parts, rows = sent[:num_parts], sent[num_parts:]
        return self._miner.answer(task, limits, parts, dict(zip(visitors, rows, strict=True)))


class MineActors:
    """The miners of a `SpreadSearch`, as actors of a pool.

    Args:
        pool: of `MineActor`.
        placement: who holds which blocks.
        blocks: references to the rows of the blocks; empty where all hold all.
    """

    def __init__(self, pool: ActorPool[Task], placement: Placement, blocks: Sequence[Any]) -> None:
        self._pool = pool
        self._placement = placement
        self._blocks = blocks

    def answers(
        self, tasks: Sequence[Task], parts: Sequence[Part], limits: Callable[[Task], Limits]
    ) -> Iterator[tuple[Task, Answer]]:
        """Yield each task once with its answer (see `miner.spread.Miners`)."""
        put_parts = [put(part) for part in parts]

        def ask(actor: Any, seat: int, task: Task) -> Any:
            visitors = self._placement.visitors(task, seat)
            sent = [put_parts[block] for block in task.blocks]
            sent += [self._blocks[block] for block in visitors]
            return actor.answer.remote(task, limits(task), visitors, *sent)

        # A task given out later has tighter limits, and less to find.
        in_hand = TASKS_IN_HAND if self._placement.sharded else 1
        yield from self._pool.each(tasks, ask, self._placement.fit, in_hand)


def _as_one(pieces: Sequence[Rows]) -> Rows:
    """Return pieces of a gallery as one, without a copy where there is only one."""
    if len(pieces) > 1:
        return join_rows(pieces)
    x, ids, first, last, norms2 = pieces[0]
    return Rows(writable(x), writable(ids), writable(first), writable(last), writable(norms2))
