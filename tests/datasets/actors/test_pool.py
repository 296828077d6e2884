"""Pools of Ray actors, with actors that import nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray

from facequarry.datasets.actors.pool import ActorPool, WorkersDied, actor_pool, starter
from facequarry.datasets.disk.errors import BadInput, Failure, TimedOut
from facequarry.miner.core.memory import is_out_of_memory

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def squares(actor_class: type, tasks: list[int], *made_with: object, num_actors: int = 2) -> Any:
    """Return the answers by task."""
    with actor_pool(
        "squarer",
        actor_class,
        num_actors,
        lambda seat: made_with,
        num_cpus=0.5,
        is_memory=is_out_of_memory,
    ) as p:
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
        (BadInput("rows of other lengths"), BadInput, "^rows of other lengths$"),
        (MemoryError("bad_alloc"), MemoryError, "^a squarer has no memory left: bad_alloc$"),
        (
            RuntimeError("can't allocate memory"),
            MemoryError,
            "^a squarer has no memory left: can't",
        ),
        (KeyError("slot"), RuntimeError, "^a squarer failed: "),
        (ValueError("a fault of ours"), RuntimeError, "^a squarer failed: "),
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


def test_no_answer_in_time_says_what_was_waited_for() -> None:
    start = starter(Idle, lambda seat: (), num_cpus=0.5)
    pool = ActorPool[int]("squarer", start, 1, timeout_s=0.0, late=lambda tasks: f": {tasks}")
    words = r"no squarer answered in 0 s; waited for 2 of 3 tasks: \[1, 2\]"
    with contextlib.closing(pool), pytest.raises(TimeoutError, match=words):
        list(pool.each([1, 2, 3], lambda actor, seat, task: actor.square.remote(task)))


class Fine:
    """Does what it is asked."""

    def ready(self) -> None:
        pass

    def square(self, task: int) -> int:
        return task * task


def raise_for_4(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Let Ray raise an error in place of the answer 4."""
    get = ray.get

    def fail(answer: Any, timeout: float) -> Any:
        found = get(answer, timeout=timeout)
        if found == 4:
            raise error
        return found

    monkeypatch.setattr("facequarry.datasets.actors.pool.ray.get", fail)


def test_what_any_other_actor_would_meet_too_is_no_death(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raise_for_4(monkeypatch, ray.exceptions.ObjectStoreFullError("no room for 5 GiB"))
    with pytest.raises(Failure, match="^Ray lost the answer of a squarer: .*no room for 5 GiB"):
        squares(Fine, [1, 2, 3], num_actors=1)
    assert not any("died" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        (ray.exceptions.GetTimeoutError("still on its way"), "1800 s"),
        (ray.exceptions.ObjectFetchTimedOutError("ab", b"", ""), "Ray's own time for a fetch"),
    ],
)
def test_an_answer_that_travels_for_long_is_no_death(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    limit: str,
) -> None:
    raise_for_4(monkeypatch, error)
    with pytest.raises(TimedOut, match=f"the answer of a squarer did not arrive in {limit};"):
        squares(Fine, [1, 2, 3], num_actors=1)
    assert not any("died" in message for message in caplog.messages)


def test_seats_are_filled_as_there_are_tasks_and_kept_from_one_list_to_the_next() -> None:
    class Named:
        def ready(self) -> None:
            pass

        def name(self, task: int) -> int:
            return os.getpid()

    pool = ActorPool[int]("namer", starter(Named, lambda seat: (), num_cpus=0.5), None)
    with contextlib.closing(pool):
        asked = [list(pool.each(tasks, _name)) for tasks in ([1], [2], [3, 4, 5])]
    (first,), (second,), third = ({pid for _, pid in answers} for answers in asked)
    assert first == second
    assert len(third | {first}) <= 2


def _name(actor: Any, seat: int, task: int) -> Any:
    return actor.name.remote(task)


def test_actors_without_a_place_are_waited_for_with_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("facequarry.datasets.actors.pool._START_TIMEOUT_S", 0.0)
    with actor_pool("giant", Idle, 1, lambda seat: (), num_cpus=8.0) as pool:
        asked = pool.each([1], lambda actor, seat, task: actor.square.remote(task))
        with pytest.raises(TimeoutError, match="no giant started in 0 s; .* free of 2$"):
            list(asked)


def test_without_ray_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(RuntimeError, match="Ray is not started, which a squarer needs"):
        ActorPool("squarer", lambda seat: None, 1)
