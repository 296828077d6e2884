"""The command behind `python -m facequarry.datasets.synthetic`: write a set of synthetic photos.

    python -m facequarry.datasets.synthetic --out photos --identities 60 --photos 12 \
        --bystanders 0.3 --label-errors 0.02

Exit codes: 0 done, 1 failed, 2 bad input; either is said in one sentence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.synthetic.photo_options import PhotoOptions
from facequarry.datasets.synthetic.photo_set import write_photos
from facequarry.datasets.synthetic.photo_truth import LOOSE_BB, TRUTH

_PROG = "python -m facequarry.datasets.synthetic"
SHARES = {
    "glasses": "photos with thick, square or dark glasses",
    "hats": "photos with a beanie, a cap or a brimmed hat",
    "beards": "photos with a full beard or a goatee",
    "occluded": "photos with a mask, a scarf, a hand or a phone before the face",
    "blurred": "photos out of focus or taken with a shaking camera",
    "profile": "photos with the head turned by 25 to 45 degrees",
    "bystanders": "photos with one to three other people",
    "label_errors": "photos that show another person than their folder says",
    "near_duplicates": "photos, but for an identity's first, that repeat an earlier one",
    "copies_across": "near-duplicates of a photo in another identity's folder",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say one sentence without the usage."""
        self.exit(2, f"{_PROG}: {message}; see --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code.

    Raises:
        SystemExit: 0 after `--help`, 2 after flags that do not parse.
    """
    args = _parser().parse_args(argv)
    try:
        options = PhotoOptions(**{name: getattr(args, name) for name in SHARES})
        written = write_photos(
            args.out,
            num_identities=args.identities,
            photos_per_identity=args.photos,
            seed=args.seed,
            options=options,
        )
    except (BadInput, NotADirectoryError) as error:
        print(f"{_PROG}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{_PROG}: cannot write {args.out}: {error.strerror}", file=sys.stderr)
        return 1
    tables = "" if options == PhotoOptions() else f", with {LOOSE_BB} and {TRUTH}"
    print(f"wrote {written} photos of {args.identities} people to {args.out}{tables}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_PROG,
        description="Write synthetic face photos in the VGGFace2 layout.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="folder for the photos, absent or empty",
    )
    parser.add_argument("--identities", type=int, default=60, metavar="N", help="people")
    parser.add_argument("--photos", type=int, default=12, metavar="N", help="photos of each")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another gives others")
    shares = parser.add_argument_group("shares, 0 to 1")
    for name, what in SHARES.items():
        flag = f"--{name.replace('_', '-')}"
        shares.add_argument(flag, type=float, default=0.0, metavar="SHARE", help=what)
    return parser
