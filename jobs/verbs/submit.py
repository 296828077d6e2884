"""`facequarry submit run ...`: the same run as a job on a Ray cluster."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from facequarry.jobs.config import BadFlags, parse
from facequarry.jobs.verbs.run import parse_run


@dataclass(frozen=True, kw_only=True, slots=True)
class Submit:
    """How a job is submitted; everything after `run` is what `facequarry run` takes.

    The cluster has to see the run's folders under the same absolute paths, and needs FaceQuarry
    installed. Give these flags before the word `run`.
    """

    address: str = "http://127.0.0.1:8265"
    """The cluster's dashboard address."""
    follow: bool = True
    """Show the job's log until it ends, and return its exit code."""
    python: str | None = None
    """Python on the cluster's head node; None takes this one on a loopback address, else
    `python`."""
    timeout_s: float = 60.0
    """Longest wait for the cluster to answer, seconds."""


def run(flags: Sequence[str]) -> int:
    """Submit a run; with `--follow`, return the job's exit code."""
    flags = list(flags)
    verb = next((i for i, flag in enumerate(flags) if flag == "run"), None)
    if verb is None:
        parse(Submit, flags, prog="facequarry submit")  # prints --help, refuses unknown flags
        raise BadFlags("submit needs a verb: facequarry submit run --config jobs/runs/lfw.toml")
    args = parse(Submit, flags[:verb], prog="facequarry submit")
    command = parse_run(flags[verb + 1 :])
    # Ray looks when it is imported: an explicit address never turns tokens on by itself.
    if (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from facequarry.jobs.submission import follow, submit_run

    loopback = any(host in args.address for host in ("127.0.0.1", "localhost", "[::1]"))
    python = args.python or (sys.executable if loopback else "python")
    job = submit_run(
        command.config,
        flags=command.resume_flags(),
        address=args.address,
        python=python,
        timeout_s=args.timeout_s,
    )
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"submitted {job} to {args.address}")
    if args.follow:
        return follow(args.address, job, sys.stdout)
    runs = shlex.quote(str(command.config.runs))
    console.print(f"its log:     ray job logs --address {args.address} --follow {job}")
    console.print(f"its state:   facequarry status --runs {runs} --run {command.config.name}")
    console.print(f"to end it:   ray job stop --address {args.address} {job}")
    return 0
