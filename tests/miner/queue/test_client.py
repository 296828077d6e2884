from __future__ import annotations

import pickle
from collections.abc import Iterable

import pytest

from facequarry.datasets.generations.triplets import Lease, RowRange
from facequarry.miner.queue.client import NoAnswer, PatientSource
from facequarry.miner.queue.serve import Wait

LEASE = Lease(7, 0, (RowRange(0, 0, 4),))


class Scripted(PatientSource):
    """Answers from a list; each sleep moves the clock on."""

    def __init__(self, answers: Iterable[Lease | Wait | NoAnswer], timeout_s: float = 10.0) -> None:
        self.now = 0.0
        super().__init__(timeout_s, clock=lambda: self.now, sleep=self._move)
        self._answers = iter(answers)
        self.wanted: list[bool] = []

    def _move(self, seconds: float) -> None:
        self.wanted.append(self.wants_checkpoint)
        self.now += 1.0

    def _ask(self, step: int) -> Lease | Wait:
        answer = next(self._answers)
        if isinstance(answer, NoAnswer):
            raise answer
        return answer


def test_an_ask_is_repeated_until_there_are_rows() -> None:
    source = Scripted([Wait("no generation"), Wait("blocking refresh"), LEASE])
    assert source.lease(7) == LEASE
    assert source.wanted == [False, False]


def test_a_checkpoint_is_wanted_while_the_rows_would_be_stale() -> None:
    source = Scripted([Wait("stale"), NoAnswer("restarted"), Wait("stale"), LEASE])
    assert source.lease(7) == LEASE
    assert source.wanted == [True, True, True]
    assert not source.wants_checkpoint


def test_a_queue_that_is_restarted_is_asked_again() -> None:
    assert Scripted([NoAnswer("restarted")] * 3 + [LEASE]).lease(7) == LEASE


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Wait("stale"), r"step 7 got no rows within 10 s: no generation served it \(stale\)"),
        (NoAnswer("it is away"), "the triplet queue did not answer .it is away.; events/miner"),
    ],
)
def test_a_wait_without_end_names_what_it_waited_for(answer: Wait | NoAnswer, words: str) -> None:
    source = Scripted([answer] * 99)
    with pytest.raises(TimeoutError, match=words):
        source.lease(7)
    assert not source.wants_checkpoint


def test_the_client_of_an_actor_pickles() -> None:
    from facequarry.miner.queue_actor import QueueClient

    again = pickle.loads(pickle.dumps(QueueClient("an actor", timeout_s=3.0)))
    assert not again.wants_checkpoint


def test_an_actor_that_is_away_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from facequarry.miner.queue_actor import QueueClient

    answers: list[object] = [
        ray.exceptions.ActorUnavailableError("restarting", None),
        ray.exceptions.GetTimeoutError("slow"),
        LEASE,
    ]

    class Actor:
        class ask:  # noqa: N801  (as Ray spells it)
            @staticmethod
            def remote(step: int) -> int:
                return step

    def get(step: int, timeout: float) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr("facequarry.miner.queue.client._POLL_S", 0.0)
    assert QueueClient(Actor, timeout_s=30.0).lease(7) == LEASE
