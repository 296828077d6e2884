"""`facequarry run`: the whole loop from one TOML file plus flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from facequarry.jobs.config import BadFlags, RunConfig, load_run_config


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCommand:
    """What `facequarry run` was told."""

    config: RunConfig
    resume: bool
    resume_from: int | None
    """Step of the checkpoint to go on from; None takes the newest."""

    def resume_flags(self) -> list[str]:
        """Return the flags that say the same on another command line."""
        if self.resume_from is not None:
            return ["--resume-from", str(self.resume_from)]
        return ["--resume"] if self.resume else []


def run(flags: Sequence[str]) -> int:
    """Run what the file and flags describe and print the closing table."""
    command = parse_run(flags)
    # Imported late: torch and ray take seconds that `--help` and a wrong flag need not wait for.
    from facequarry.jobs.pipeline import run_pipeline
    from facequarry.jobs.reports.report_table import print_report
    from facequarry.jobs.state.runs_on_disk import absolute
    from facequarry.jobs.state.setting_changes import changed_settings

    console = Console(highlight=False, soft_wrap=True)
    if command.resume:
        for change in changed_settings(absolute(command.config)):
            console.print(change, markup=False)
    report = run_pipeline(command.config, resume=command.resume, resume_from=command.resume_from)
    print_report(report, Console())
    return 0


def parse_run(flags: Sequence[str]) -> RunCommand:
    """Split off `--config`, `--resume` and `--resume-from`; parse the rest over the file.

    Raises:
        BadFlags: a flag or a key of the file is wrong.
    """
    rest = list(flags)
    resume = "--resume" in rest
    if resume:
        rest.remove("--resume")
    file = _take_value(rest, "--config", "a file, such as jobs/runs/lfw.toml")
    step = _take_value(rest, "--resume-from", "the step of a checkpoint, such as 200")
    if step is not None and not step.isdecimal():
        raise BadFlags(f"--resume-from is {step!r}, expected the step of a checkpoint")
    return RunCommand(
        config=load_run_config(None if file is None else Path(file), rest, prog="facequarry run"),
        resume=resume or step is not None,
        resume_from=None if step is None else int(step),
    )


def _take_value(rest: list[str], flag: str, needs: str) -> str | None:
    """Remove `flag VALUE` or `flag=VALUE` and return the value; None where it is absent."""
    for position, word in enumerate(rest):
        name, equals, value = word.partition("=")
        if name != flag:
            continue
        taken = 1 if equals else 2
        value = value if equals else "".join(rest[position + 1 : position + 2])
        if not value:
            raise BadFlags(f"{flag} needs {needs}")
        del rest[position : position + taken]
        return value
    return None
