"""The command behind `python -m datasets.synthetic`: write a set of synthetic photos.

    python -m datasets.synthetic --out photos --identities 60 --photos 12 \
        --options.bystanders 0.3 --options.label-errors 0.02

Exit codes: 0 done, 2 bad input, said in one sentence.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from datasets.photo_options import PhotoOptions
from datasets.photo_truth import LOOSE_BB, TRUTH
from datasets.synthetic import write_photos

_PROG = "python -m datasets.synthetic"


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Write synthetic face photos in the VGGFace2 layout."""

    out: Path
    """Folder for the photos, absent or empty."""
    identities: int = 60
    """People."""
    photos: int = 12
    """Photos of each."""
    seed: int = 0
    """Another seed gives other people."""
    options: PhotoOptions = field(default_factory=PhotoOptions)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    report = io.StringIO()
    try:
        with contextlib.redirect_stderr(report):
            args = tyro.cli(Command, args=argv, prog=_PROG)
    except SystemExit as stop:
        return _refuse(_one_line(report.getvalue())) if stop.code else 0
    except ValueError as error:
        return _refuse(str(error))
    try:
        written = write_photos(
            args.out,
            num_identities=args.identities,
            photos_per_identity=args.photos,
            seed=args.seed,
            options=args.options,
        )
    except (ValueError, OSError) as error:
        return _refuse(str(error))
    tables = "" if args.options == PhotoOptions() else f", with {LOOSE_BB} and {TRUTH}"
    print(f"wrote {written} photos of {args.identities} people to {args.out}{tables}")
    return 0


def _refuse(sentence: str) -> int:
    print(f"{_PROG}: {sentence}", file=sys.stderr)
    return 2


def _one_line(report: str) -> str:
    """Take the sentence out of tyro's box: no frame, no colours, no pointer to the help."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", report)
    lines = [line.strip("│ ") for line in plain.splitlines() if line[:1] not in "╭╰"]
    words = " ".join(line.strip("─ ") for line in lines if not line.startswith("For full help"))
    return re.sub(r"\s+", " ", words).strip()
