"""The engine that a configuration names, open over a gallery."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from facequarry.miner.config import MinerConfig
from facequarry.miner.core.search import Search, Workers
from facequarry.miner.engines.approximate import IndexSearch
from facequarry.miner.engines.cost import choose_engine
from facequarry.miner.engines.exact import ExactSearch
from facequarry.miner.engines.gpu.gpu_engine import open_gpu, uses_gpu
from facequarry.miner.engines.resolve import Resolving
from facequarry.miner.engines.routing import RoutedSearch
from facequarry.miner.kernels.layout import Rows

OpenEngine = Callable[[Rows, MinerConfig, Workers], AbstractContextManager[Search]]
"""Opens an engine over a gallery."""


def opener(num_anchors: int, seed: int, progress: Callable[[int], None] | None) -> OpenEngine:
    """Return what opens the engine that the configuration names.

    Args:
        num_anchors: how many will be searched for, by which `auto` chooses.
        seed: of what an approximate engine draws.
        progress: told by the exact engine how many (anchor, row) products were looked at.
    """

    @contextlib.contextmanager
    def open_engine(rows: Rows, config: MinerConfig, workers: Workers) -> Iterator[Search]:
        with contextlib.ExitStack() as stack:
            approximate: Search
            match choose_engine(config, rows.ids.size, num_anchors):
                case "exact" if uses_gpu(config):
                    yield stack.enter_context(open_gpu(rows, config))
                    return
                case "exact":
                    yield ExactSearch(rows, workers, progress)
                    return
                case "routed":
                    approximate = RoutedSearch(rows, config, workers, seed)
                case "faiss":
                    approximate = stack.enter_context(IndexSearch(rows, config, workers, seed))
            if config.resolve == "exact":
                approximate = Resolving(approximate, lambda: ExactSearch(rows, workers))
            yield approximate

    return open_engine
