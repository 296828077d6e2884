"""What a shared-out refresh asks of Ray, without Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

from facequarry.datasets.actors.pool import ActorPool
from facequarry.miner.config import MinerConfig
from facequarry.miner.refresh.shared_executors import EMBED_BLOCK, SharedExecutors
from facequarry.trainer.batch.run_faces import FacesAt

NOWHERE = FacesAt(root=Path("absent"), cache=Path("absent"), snapshot=1)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a pool of actors was asked for, on a cluster of two GPUs."""
    asked: dict[str, Any] = {}

    class Pool:
        def each(self, starts: Sequence[int], *_: object) -> Iterator[tuple[int, Any]]:
            yield from ((start, np.array([[0, 1]], np.float32)) for start in starts)

    def actor_pool(
        what: str, actor_class: type, num_actors: int, arguments: Callable[..., Any], **told: Any
    ) -> contextlib.AbstractContextManager[Any]:
        asked.update(told, num_actors=num_actors)
        return contextlib.nullcontext(Pool())

    monkeypatch.setattr("facequarry.miner.refresh.shared_executors.actor_pool", actor_pool)
    monkeypatch.setattr("facequarry.miner.refresh.shared_executors.put", lambda value: value)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    return asked


@pytest.mark.parametrize(("device", "actors", "gpus"), [("cpu", 3, 0), ("cuda", 2, 1)])
def test_embedders_on_gpus_reserve_one_each_and_are_no_more_than_those(
    asked: dict[str, Any], device: Any, actors: int, gpus: int
) -> None:
    sharing = SharedExecutors(at=NOWHERE, embed_actors=3, miner_actors=1, cpus=2.0)
    recipe: Any = SimpleNamespace(config=MinerConfig(device=device), step=4)
    store: Any = SimpleNamespace(manifest=SimpleNamespace(number=1))
    sharing.embed(recipe, nn.Identity(), store, np.arange(5 * EMBED_BLOCK))
    asked.pop("is_memory")
    assert asked == {"num_actors": actors, "num_cpus": 2.0, "num_gpus": gpus}


def test_a_pool_names_the_gpus_that_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.wait", lambda *_, **__: ([], []))
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    monkeypatch.setattr("ray.available_resources", lambda: {"CPU": 5.0})
    actor = SimpleNamespace(ready=SimpleNamespace(remote=lambda: "starting"))
    pool: ActorPool[int] = ActorPool("embedding actor", lambda seat: actor, 1)
    with pytest.raises(TimeoutError, match="has 5 CPUs free of 8 and 0 GPUs free of 2$"):
        list(pool.each([1], lambda *_: None))
