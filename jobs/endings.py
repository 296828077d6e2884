"""How a run may end before its last step, and which exit code that has."""

from __future__ import annotations

from facequarry.jobs.cli import PACKAGES
from facequarry.trainer.ray_train import describe, raised_in_actor


class RunFailed(RuntimeError):
    """Training or mining failed; the message is its reason."""


class BadRun(ValueError):
    """What the run was given cannot be used, which only its workers could see."""


def ending_of(cause: BaseException) -> RunFailed | BadRun:
    """Return what a run ends with when its work raised `cause`.

    A `ValueError` that one of our modules defines (a checkpoint of another backbone, a generation
    smaller than a batch) is the user's to mend. Any other error is a failure: a builtin raised in
    another process does not say whose it is.
    """
    cause = raised_in_actor(cause) or cause
    is_ours = type(cause).__module__.partition(".")[0] in PACKAGES
    if is_ours and isinstance(cause, ValueError):
        return BadRun(str(cause))
    is_sentence = is_ours or isinstance(cause, FloatingPointError | TimeoutError)
    return RunFailed(str(cause) if is_sentence else describe(cause))
