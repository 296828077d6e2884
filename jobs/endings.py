"""How a run may end before its last step, and which exit code that has."""

from __future__ import annotations

from facequarry.datasets.disk.errors import BadInput, Failure
from facequarry.trainer.ray_train import describe, raised_in_actor


class RunFailed(Failure):
    """Training or mining failed; the message is its reason."""


class BadRun(BadInput):
    """What the run was given cannot be used, which only its workers could see."""


def ending_of(cause: BaseException) -> RunFailed | BadRun:
    """Return what a run ends with when its work raised `cause`.

    Bad input that only a worker could see (a checkpoint of another backbone, a generation smaller
    than a batch) is the user's to mend; any other error is a failure, a defect described.
    """
    cause = raised_in_actor(cause) or cause
    if isinstance(cause, BadInput):
        return BadRun(str(cause))
    return RunFailed(str(cause) if isinstance(cause, Failure) else describe(cause))
