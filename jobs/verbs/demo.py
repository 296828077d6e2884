"""`facequarry demo`: the whole loop on rendered faces, nothing to download."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from rich.console import Console

from facequarry.datasets.disk.errors import BadInput
from facequarry.jobs.config import load_run_config, parse


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """Render photos, ingest them, train with mining beside it, evaluate."""

    identities: int = 60
    """People to render (12 or more)."""
    photos: int = 14
    """Photos of each (4 or more)."""
    steps: int | None = None
    """Training steps; None takes the demo's own."""
    runs: Path = Path("runs")
    """Folder of all runs; the demo makes demo-<time>/ in it."""
    seed: int = 0
    """Of the faces, the weights and the mining."""

    def __post_init__(self) -> None:
        if self.identities < 12:
            raise BadInput(f"identities is {self.identities}, it must be 12 or more")
        if self.photos < 4:
            raise BadInput(f"photos is {self.photos}, it must be 4 or more")


def run(flags: Sequence[str]) -> int:
    """Run the demo and print the closing table and the paths of its pictures."""
    args = parse(Demo, flags, prog="facequarry demo")
    from facequarry.datasets.disk.progress import Progress
    from facequarry.datasets.synthetic import write_bad_photos, write_photos
    from facequarry.jobs.pipeline import run_pipeline
    from facequarry.jobs.reports.report_table import print_report

    began = time.monotonic()
    root = (args.runs / f"demo-{time.strftime('%Y%m%d-%H%M%S')}").resolve()
    photos = root / "photos"
    root.mkdir(parents=True)  # first of all: `facequarry status` shows it from now on
    console = Console()
    console.print(f"run {root}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"rendering {args.identities} people, {args.photos} photos each", highlight=False)
    with Progress("render", total=args.identities * args.photos, unit="photos") as progress:
        written = write_photos(
            photos,
            num_identities=args.identities,
            photos_per_identity=args.photos,
            seed=args.seed,
        )
        progress.update(written)
    write_bad_photos(photos, seed=args.seed)  # so that there is something to reject

    config = load_run_config(Path(str(files("facequarry.jobs.runs") / "demo.toml")), [])
    config = replace(
        config,
        name=root.name,
        runs=root.parent,
        photos=photos,
        faces=root / "faces",
        seed=args.seed,
        trainer=replace(config.trainer, steps=args.steps or config.trainer.steps),
    )
    report = run_pipeline(config)
    print_report(report, console)
    console.print(
        f"{time.monotonic() - began:.0f} s in all; watch it again with: "
        f"facequarry dashboard --runs {args.runs} --run {root.name}",
        soft_wrap=True,
        highlight=False,
    )
    return 0
