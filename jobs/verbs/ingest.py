"""`facequarry ingest`: photos to faces in Parquet."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from facequarry.datasets.config import FollowConfig, IngestConfig
from facequarry.datasets.disk.errors import BadInput
from facequarry.jobs.config import ClusterConfig, parse

if TYPE_CHECKING:
    from facequarry.datasets.ingest.ingest import Ingest as Work
    from facequarry.datasets.ingest.tally import IngestReport


@dataclass(frozen=True, kw_only=True, slots=True)
class Ingest:
    """Detect, crop and shard photos; a killed ingest goes on from its finished shards."""

    source: Path
    """Folder of <identity>/<photo>, such as VGGFace2's train/, or a tar or tar.gz of it."""
    out: Path
    """Folder of faces; made if absent, added to if it holds faces already."""
    follow: bool = False
    """Keep watching the folder, and publish new photos as further snapshots; end it with Ctrl-C."""
    watch: tyro.conf.OmitArgPrefixes[FollowConfig] = field(default_factory=FollowConfig)
    config: tyro.conf.OmitArgPrefixes[IngestConfig] = field(default_factory=IngestConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)


def run(flags: Sequence[str]) -> int:
    """Ingest and print what came of it."""
    args = parse(Ingest, flags, prog="facequarry ingest")
    if args.follow and args.source.is_file():
        raise BadInput(f"--follow watches a folder, and {args.source} is a file")
    from facequarry.datasets.ingest.ingest import Ingest as Work

    # Whatever can be refused is refused before a cluster is started.
    with Work(args.source, args.out, args.config) as work:
        if args.follow:
            _follow(args, work)
        else:
            print_report(_once(args, work), work.root)
    return 0


def _once(args: Ingest, work: Work) -> IngestReport:
    from facequarry.jobs.cluster import ray_cluster
    from facequarry.jobs.watch import ingest_progress, listing_progress

    with listing_progress() as show_listing:
        listing = work.look(show_listing)
    news = work.find_news(listing)
    needs_ray = news.photos.num_rows > 0
    with ray_cluster(args.cluster) if needs_ray else contextlib.nullcontext():
        with ingest_progress() as show:
            return work.take(listing, news, show)


def _follow(args: Ingest, work: Work) -> None:
    """Take new photos until an interrupt ends it, and say at every snapshot what there is."""
    from facequarry.datasets.ingest.follow import follow
    from facequarry.jobs.cluster import ray_cluster
    from facequarry.jobs.watch import ingest_progress

    say = partial(Console(stderr=True, highlight=False, soft_wrap=True).print, markup=False)
    say(
        f"watching {args.source} for photos that stand still for {args.watch.settle_s:g} s; "
        "Ctrl-C ends it"
    )
    last: IngestReport | None = None
    try:
        with (
            ray_cluster(args.cluster),
            ingest_progress() as show,
            contextlib.closing(follow(work, args.watch, show)) as reports,
        ):
            for last in reports:
                say(
                    f"snapshot {last.snapshot}: {last.new_photos} photos looked at; in all "
                    f"{last.faces} faces of {last.identities} identities, rejected "
                    f"{_counts(last.rejects)}"
                )
    finally:
        if last is not None:
            print_report(last, work.root)


def print_report(report: IngestReport, root: Path) -> None:
    """Print what an ingest did as a table."""
    from facequarry.datasets.disk.progress import duration

    title = Text(f"Faces in {root}")  # as text: in markup a name's brackets would be lost
    table = Table(title=title, show_header=False, title_justify="left")
    for _ in ("name", "value"):
        table.add_column(overflow="fold")  # a path that is cut off is of no use
    state = "published" if report.is_published else "nothing new, the snapshot stays"
    rate = f", {report.made_photos / report.seconds:.0f} photos/s" if report.made_photos else ""
    for name, value in (
        ("snapshot", f"{report.snapshot} ({state})"),
        ("photos", f"{report.photos}, {report.made_photos} of them looked at now"),
        ("faces, identities", f"{report.faces}, {report.identities}"),
        ("rejected photos", _counts(report.rejects)),
        *((f"left out, {reason}", str(n)) for reason, n in report.left_out.items()),
        *((note, str(n)) for note, n in report.notes.items()),
        (
            "shards",
            f"{report.shards}: {report.shards_made} made now, {report.shards_reused} found "
            "finished but unpublished",
        ),
        ("time", duration(report.seconds) + rate),
        *((f"picture of {path.stem}", str(path)) for path in report.pictures),
    ):
        table.add_row(Text(name), Text(value))
    Console().print(table)


def _counts(rejects: dict[str, int]) -> str:
    return ", ".join(f"{reason} {n}" for reason, n in sorted(rejects.items())) or "none"
