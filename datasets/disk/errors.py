"""The errors that reach a person: whose they are to mend, and the exit code that says so.

    BadInput (2)            what was given cannot be used; the sentence says what to do
      NotFound                a FileNotFoundError too
      AlreadyExists           a FileExistsError too
      NotInstalled            an ImportError too
      Damaged                 its bytes are not what was published
    Failure (1)             the work failed; the same command may succeed later
      TimedOut                a TimeoutError too

Each lives beside its owner and descends from one of these. Anything else that reaches the command
is a defect of ours, and keeps its traceback; an `OSError` of the operating system alone is judged
by its number (`exit_code_of`). So whatever reads a file that a person can damage names what its
library raises then: a plain `ValueError` of NumPy or pyarrow is a defect.
"""

from __future__ import annotations

import errno

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# Of the disk, or of the machine as it is now; any other number speaks of a path that was named.
_FAILURES = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ESTALE,
    errno.ENOLCK,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
)


class BadInput(ValueError):
    """What was given cannot be used; the message is a sentence that says what to do."""


class NotFound(BadInput, FileNotFoundError):
    """What was named is not there."""


class AlreadyExists(BadInput, FileExistsError):
    """What was to be made is there already."""


class NotInstalled(BadInput, ImportError):
    """What was asked for needs a library that is not here."""


class Damaged(BadInput):
    """Bytes on disk are not what was published there; another checkpoint or shard may be sound."""


class Failure(RuntimeError):
    """The work failed, and other input would not help; the message is its reason."""


class TimedOut(Failure, TimeoutError):
    """A wait ended; the message names what was waited for."""


def exit_code_of(error: BaseException) -> int | None:
    """Return the exit code of an error whose sentence is enough; None for a defect.

    A path that a person named and that cannot be used is bad input; a full or broken disk, a lost
    connection and a time-out are failures.
    """
    if isinstance(error, BadInput):
        return BAD_INPUT
    if isinstance(error, Failure):
        return FAILED
    if isinstance(error, OSError):
        is_failure = isinstance(error, TimeoutError | ConnectionError) or error.errno in _FAILURES
        return FAILED if is_failure else BAD_INPUT
    return None
