"""`facequarry dashboard`: watch runs in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facequarry.jobs.config import parse


@dataclass(frozen=True, kw_only=True, slots=True)
class Dashboard:
    """Serve the page over the run folders; it reads and never writes. Ctrl-C ends it."""

    runs: Path = Path("runs")
    """Folder of all runs."""
    run: str | None = None
    """The run to show first; None takes the newest."""
    host: str = "127.0.0.1"
    """Address to listen on; the page has no login of its own."""
    port: int = 8501
    """Port to listen on."""
    behind_auth_proxy: bool = False
    """Allow another host than loopback: a proxy in front asks for a login."""


def run(flags: Sequence[str]) -> int:
    """Serve until interrupted."""
    args = parse(Dashboard, flags, prog="facequarry dashboard")
    from facequarry.dashboards.server import serve

    return serve(
        args.runs,
        args.run,
        host=args.host,
        port=args.port,
        behind_auth_proxy=args.behind_auth_proxy,
    )
