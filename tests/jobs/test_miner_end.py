"""A miner that ended with an error: said once, and blamed for nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError

from facequarry.datasets.runs.events import EventLog, read_events
from facequarry.jobs.miner_end import MinerEnd
from facequarry.miner.queue.client import MiningFailed

pytestmark = pytest.mark.ray


class Queue:
    """Stands for the queue actor: keeps what it is told."""

    def __init__(self) -> None:
        self._told: list[str] = []

    def give_up(self, reason: str) -> None:
        """Keep a reason."""
        self._told.append(reason)

    def told(self) -> list[str]:
        """Return the reasons so far."""
        return self._told


def mine(error: Exception | None) -> int:
    if error is not None:
        raise error
    return 3


def through_ray(cause: Exception) -> RayTaskError:
    wrapped: RayTaskError = RayTaskError("ask", "traceback", cause).as_instanceof_cause()
    return wrapped


def ended(error: Exception | None, folder: Path) -> tuple[MinerEnd, Any]:
    """Return what looks at a miner whose work is over, and its queue."""
    remote: Any = ray.remote
    mining = remote(mine).options(num_cpus=0, max_retries=0).remote(error)
    ray.wait([mining], timeout=60)
    queue = remote(Queue).options(num_cpus=0).remote()
    return MinerEnd(mining, queue, EventLog(folder, "driver", attempt=1)), queue


def test_an_error_is_logged_and_said_once_and_told_to_the_queue_each_time(
    ray_cluster: None, tmp_path: Path
) -> None:
    end, queue = ended(MiningFailed("no band"), tmp_path)
    said: list[str] = []
    for _ in range(3):
        end.look(said.append)
    assert said == ["mining ended: no band"]
    events = read_events(tmp_path, "driver")
    assert [(e["event"], e["reason"]) for e in events] == [("miner ended", "no band")]
    assert ray.get(queue.told.remote(), timeout=60) == ["no band"] * 3


def test_the_miner_is_blamed_only_where_a_worker_had_no_triplets(
    ray_cluster: None, tmp_path: Path
) -> None:
    end, _ = ended(ValueError("a bug"), tmp_path)
    starved, nan = through_ray(MiningFailed("a bug")), FloatingPointError("the loss is nan")
    assert end.behind(starved) is starved  # nobody has looked yet
    end.look(lambda _: None)
    assert end.behind(nan) is nan
    assert isinstance(end.behind(starved), ValueError)


def test_a_miner_that_is_done_has_nothing_to_say(ray_cluster: None, tmp_path: Path) -> None:
    end, queue = ended(None, tmp_path)
    end.look(pytest.fail)
    MinerEnd(None, queue, EventLog(tmp_path, "driver", attempt=1)).look(pytest.fail)
    assert read_events(tmp_path, "driver") == []
    assert ray.get(queue.told.remote(), timeout=60) == []
