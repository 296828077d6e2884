from __future__ import annotations

from typing import Any

from facequarry.datasets.runs.clock import RunClock
from facequarry.datasets.runs.refreshes import Refresh, read_refreshes


def event(at: float, name: str, **fields: object) -> dict[str, Any]:
    return {"time": at, "attempt": 1, "event": name, "step": None, **fields}


def refreshes(*miner: dict[str, Any]) -> tuple[Refresh, ...]:
    return read_refreshes(miner, [], RunClock([event(0.0, "start"), *miner]), is_live=False)


def test_a_lock_that_is_held_while_nothing_is_due_is_no_refresh() -> None:
    assert refreshes(event(1.0, "failed", reason="held by process 7")) == ()


def test_a_lock_that_is_held_is_a_failure_of_what_was_due() -> None:
    (failed,) = refreshes(
        event(1.0, "failed", reason="held by process 7", checkpoint_step=20, generation=3)
    )
    assert (failed.generation, failed.mined_at_step, failed.outcome) == (3, 20, "failed")
    assert (failed.reason, failed.refresh_s) == ("held by process 7", 0.0)


def test_a_refresh_that_began_fails_with_its_own_step() -> None:
    (failed,) = refreshes(
        event(1.0, "begin", checkpoint_step=20, generation=3),
        event(4.0, "failed", reason="OSError: disk full"),
    )
    assert (failed.generation, failed.mined_at_step, failed.refresh_s) == (3, 20, 3.0)


def test_a_generation_without_rows_says_why() -> None:
    (empty,) = refreshes(
        event(1.0, "begin", checkpoint_step=0, generation=0),
        event(
            2.0, "published", checkpoint_step=0, generation=0, rows=0, load_s=0.5, reason="no band"
        ),
    )
    assert (empty.outcome, empty.counts["rows"], empty.reason) == ("published", 0, "no band")
    assert empty.seconds == {"load": 0.5}
