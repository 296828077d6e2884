"""`facequarry run`: the whole loop from one TOML file plus flags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from jobs.config import BadFlags, RunConfig, load_run_config


def run(flags: Sequence[str]) -> int:
    """Run what the file and flags describe and print the closing table."""
    config, resume = parse_run(flags)
    # Imported late: torch and ray take seconds that `--help` and a wrong flag need not wait for.
    from jobs.pipeline import run_pipeline
    from jobs.report import report_table

    report = run_pipeline(config, resume=resume)
    console = Console()
    console.print(report_table(report))
    for name, path in report.pictures.items():
        console.print(f"{name:<10} {path}", soft_wrap=True, highlight=False)
    return 0


def parse_run(flags: Sequence[str]) -> tuple[RunConfig, bool]:
    """Split off `--config FILE` and `--resume`; parse the rest over the file.

    Raises:
        BadFlags: a flag or a key of the file is wrong.
    """
    rest = list(flags)
    resume = "--resume" in rest
    if resume:
        rest.remove("--resume")
    file: Path | None = None
    for position, flag in enumerate(rest):
        if flag == "--config" or flag.startswith("--config="):
            taken = 1 if "=" in flag else 2
            value = flag.partition("=")[2] if "=" in flag else "".join(rest[position + 1 :][:1])
            if not value:
                raise BadFlags("--config needs a file, such as jobs/runs/lfw.toml")
            file = Path(value)
            del rest[position : position + taken]
            break
    return load_run_config(file, rest, prog="facequarry run"), resume
