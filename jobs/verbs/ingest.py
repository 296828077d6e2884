"""`facequarry ingest`: photos to faces in Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from datasets.config import IngestConfig
from jobs.config import ClusterConfig, parse


@dataclass(frozen=True, kw_only=True, slots=True)
class Ingest:
    """Detect, crop and shard photos; a killed ingest goes on from its finished shards."""

    source: Path
    """Folder of <identity>/<photo>, such as VGGFace2's train/."""
    out: Path
    """Folder of faces; made if absent, added to if it holds faces already."""
    config: tyro.conf.OmitArgPrefixes[IngestConfig] = field(default_factory=IngestConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)


def run(flags: Sequence[str]) -> int:
    """Ingest and print what came of it."""
    args = parse(Ingest, flags, prog="facequarry ingest")
    from datasets.ingest import IngestReport, ingest
    from datasets.progress import duration
    from datasets.sources import list_photos
    from jobs.cluster import ray_cluster
    from jobs.watch import ingest_progress

    # Refused before a cluster is started.
    list_photos(args.source, min_photos_per_identity=args.config.min_photos_per_identity)
    with ray_cluster(args.cluster), ingest_progress() as show:
        report: IngestReport = ingest(args.source.resolve(), args.out.resolve(), args.config, show)
    table = Table(title=f"Faces in {args.out}", show_header=False, title_justify="left")
    rejects = ", ".join(f"{reason} {n}" for reason, n in sorted(report.rejects.items())) or "none"
    state = "published" if report.is_published else "nothing new, the snapshot stays"
    made = f"{duration(report.seconds)}, {report.made_photos / report.seconds:.0f} photos/s"
    for name, value in (
        ("snapshot", f"{report.snapshot} ({state})"),
        ("photos", f"{report.photos}, {report.made_photos} of them looked at now"),
        ("faces, identities", f"{report.faces}, {report.identities}"),
        ("rejected photos", rejects),
        *((f"left out, {reason}", str(n)) for reason, n in report.left_out.items()),
        ("shards", f"{report.shards_made} made, {report.shards_reused} reused"),
        ("time", made if report.made_photos else duration(report.seconds)),
        *((f"picture of {path.stem}", str(path)) for path in report.pictures),
    ):
        table.add_row(name, value)
    Console().print(table)
    return 0
