"""Pools of Ray actors, with actors that import nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from facequarry.miner.spread.actor_pool import ActorPool, actor_pool
from facequarry.miner.spread.schedule import WorkersDied

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def squares(actor_class: type, tasks: list[int], *made_with: object, num_actors: int = 2) -> Any:
    """Return the answers by task."""
    with actor_pool("squarer", actor_class, num_actors, lambda seat: made_with, num_cpus=0.5) as p:
        return dict(p.each(tasks, lambda actor, seat, task: actor.square.remote(task)))


def test_every_task_is_answered_though_actors_are_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Mortal:
        def __init__(self, folder: Path) -> None:
            self._folder = folder

        def ready(self) -> None:
            pass

        def square(self, task: int) -> int:
            marker = self._folder / str(task)
            if task in (2, 5) and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return task * task

    assert squares(Mortal, list(range(9)), tmp_path) == {n: n * n for n in range(9)}
    assert sum("a squarer died, its " in message for message in caplog.messages) == 2


def test_a_task_that_kills_every_actor_ends_it() -> None:
    class Dying:
        def ready(self) -> None:
            pass

        def square(self, task: int) -> int:
            if task == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return task * task

    with pytest.raises(WorkersDied, match="^squarers die: 3 of them died at 4; the last one: "):
        squares(Dying, [4, 5], num_actors=1)


def test_actors_that_die_while_they_start_end_it() -> None:
    class Stillborn:
        def ready(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkersDied, match="3 of them died while starting"):
        squares(Stillborn, [1], num_actors=1)


@pytest.mark.parametrize(
    ("raised", "kind", "sentence"),
    [
        (ValueError("rows of other lengths"), ValueError, "^rows of other lengths$"),
        (MemoryError("bad_alloc"), MemoryError, "^a squarer has no memory left: bad_alloc$"),
        (
            RuntimeError("can't allocate memory"),
            MemoryError,
            "^a squarer has no memory left: can't",
        ),
        (KeyError("slot"), RuntimeError, "^a squarer failed: "),
    ],
)
def test_what_an_actor_raises_ends_it_at_once(
    raised: Exception, kind: type[Exception], sentence: str
) -> None:
    class Failing:
        def ready(self) -> None:
            pass

        def square(self, task: int) -> int:
            raise raised

    with pytest.raises(kind, match=sentence) as caught:
        squares(Failing, [1, 2], num_actors=1)
    assert type(caught.value) is kind


def test_what_an_actor_raises_while_it_starts_ends_it_at_once() -> None:
    class Refusing:
        def ready(self) -> None:
            raise FileNotFoundError("no snapshot 3")

    with pytest.raises(FileNotFoundError, match="^no snapshot 3$"):
        squares(Refusing, [1], num_actors=1)


class Idle:
    """Never answers of itself."""

    def ready(self) -> None:
        pass

    def square(self, task: int) -> None:
        signal.pause()


def test_no_answer_in_time_says_what_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facequarry.miner.spread.actor_pool._ANSWER_TIMEOUT_S", 0.0)
    with pytest.raises(TimeoutError, match="no squarer answered in 0 s; waited for 2 of 3 tasks"):
        squares(Idle, [1, 2, 3], num_actors=1)


def test_actors_without_a_place_are_waited_for_with_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("facequarry.miner.spread.actor_pool._START_TIMEOUT_S", 0.0)
    with actor_pool("giant", Idle, 1, lambda seat: (), num_cpus=8.0) as pool:
        asked = pool.each([1], lambda actor, seat, task: actor.square.remote(task))
        with pytest.raises(TimeoutError, match="no giant started in 0 s; .* free of 2$"):
            list(asked)


def test_without_ray_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(RuntimeError, match="Ray is not started, which a squarer needs"):
        ActorPool("squarer", lambda seat: None, 1)
