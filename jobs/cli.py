"""The `facequarry` command: verbs, their flags, and exit codes.

Exit codes: 0 done, 1 failed (also: another process drives the run, so the same command may succeed
later), 2 bad input, 130 interrupted. Every verb has `--help`. Only this module and the verbs print.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version

from facequarry.datasets.disk.errors import BAD_INPUT, DONE, FAILED, INTERRUPTED, exit_code_of
from facequarry.jobs.signals import take_sigterm_for_ctrl_c

# What an interrupt leaves of a verb; the others keep nothing.
_KEPT = {
    "ingest": "what was finished stays: the same command goes on from it",
    "train": "what was finished stays: the same command without --resume-from goes on from it",
    "run": "what was finished stays: the same command goes on from it with --resume (which takes "
    "the place of --resume-from)",
    "demo": "once it trains, its checkpoints stay: go on with facequarry train --run FOLDER",
    "submit": "a job that was submitted goes on: facequarry status shows it, ray job stop ends it",
}

logger = logging.getLogger(__name__)

# Verb: (module, one line of help). Modules are imported when their verb is used: `--help` is quick.
VERBS: dict[str, tuple[str, str]] = {
    "demo": (
        "facequarry.jobs.verbs.demo",
        "the whole loop on rendered faces, into a fresh runs/demo-<time>/",
    ),
    "ingest": ("facequarry.jobs.verbs.ingest", "photos to faces in Parquet"),
    "run": (
        "facequarry.jobs.verbs.run",
        "a whole run: ingest, train with mining beside it, evaluate",
    ),
    "train": ("facequarry.jobs.verbs.train", "go on with a run's training, mining beside it"),
    "mine": ("facequarry.jobs.verbs.mine", "mine one generation from a run's newest checkpoint"),
    "evaluate": (
        "facequarry.jobs.verbs.evaluate",
        "verify held-out identities with a run's checkpoint",
    ),
    "status": ("facequarry.jobs.verbs.status", "what the runs are doing"),
    "submit": ("facequarry.jobs.verbs.submit", "submit `run` to a Ray cluster as a job"),
    "dashboard": ("facequarry.jobs.verbs.dashboard", "watch runs in a browser"),
    "doctor": ("facequarry.jobs.verbs.doctor", "what is installed and what can run here"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if not args or args[0] in ("-h", "--help", "help"):
        print(_usage())
        return DONE
    if args[0] == "--version":
        print(f"facequarry {version('facequarry')}")
        return DONE
    verb, *flags = args
    if verb not in VERBS:
        return _refuse(f"unknown verb {verb!r}; one of: {', '.join(VERBS)}")
    take_sigterm_for_ctrl_c()
    try:
        run: Callable[[Sequence[str]], int] = import_module(VERBS[verb][0]).run
        return run(flags)
    except KeyboardInterrupt:
        return _interrupted(verb)
    except SystemExit as ended:
        if ended.code == signal.SIGTERM:  # while Ray starts, its own handler takes the signal
            return _interrupted(verb)
        raise
    except BrokenPipeError:
        # Whoever read our output has enough of it, as `head` does; flushing at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            logger.exception("facequarry %s failed", verb)
            return FAILED
        logger.debug("exit code %d", code, exc_info=True)
        print(f"facequarry: {error}", file=sys.stderr)
        return code


def _usage() -> str:
    lines = [f"  {verb:<10} {text}" for verb, (_, text) in VERBS.items()]
    return "\n".join(
        [
            "usage: facequarry VERB [flags]",
            "",
            "Streaming face-data mining and offline semi-hard triplet selection on Ray.",
            "",
            *lines,
            "",
            "facequarry VERB --help lists a verb's flags with units and defaults;",
            "facequarry --version prints the version.",
        ]
    )


def _interrupted(verb: str) -> int:
    print(f"facequarry: interrupted; {_KEPT.get(verb, 'run it again')}", file=sys.stderr)
    return INTERRUPTED


def _refuse(sentence: str) -> int:
    print(f"facequarry: {sentence}", file=sys.stderr)
    return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
