"""Start the page: Streamlit as a process of its own, on this machine alone unless told otherwise.

facequarry dashboard --runs runs
"""

from __future__ import annotations

import ipaddress
import signal
import socket
import subprocess
import sys
from pathlib import Path

from facequarry.dashboards.facts.read import list_runs
from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.runs.vocabulary import BLUE

APP = Path(__file__).with_name("app.py")
_END_TIMEOUT_S = 10.0


def serve(
    runs: Path, run: str | None, *, host: str, port: int, behind_auth_proxy: bool = False
) -> int:
    """Serve the page until it is interrupted; return the server's exit code, 0 for Ctrl-C.

    Args:
        runs: folder of all runs; new ones appear on the page by themselves.
        run: name of the run to show first; None takes the one started last.
        host: address to listen on.
        port: port to listen on.
        behind_auth_proxy: somebody else checks who may see the page, so that `host` may be an
            address that others reach.

    Raises:
        BadInput, NotFound: as `start` does.
    """
    child = start(runs, run, host=host, port=port, behind_auth_proxy=behind_auth_proxy)
    # A plain kill of this process must not leave the server behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return child.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
        end(child)


def start(
    runs: Path, run: str | None, *, host: str, port: int, behind_auth_proxy: bool = False
) -> subprocess.Popen[bytes]:
    """Start the server and return its process; `end` it when done.

    Raises:
        BadInput: others reach `host` and no proxy checks them, or it cannot be listened on, for
            instance because the port is taken.
        NotFound: there is no such folder or run.
    """
    if not behind_auth_proxy and not _is_loopback(host):
        raise BadInput(
            f"host is {host}, which others reach, and the page has no login; leave it at "
            "127.0.0.1, or put a proxy with a login before it and add --behind-auth-proxy"
        )
    if not 1 <= port <= 65535:
        raise BadInput(f"port is {port}, expected 1 to 65535")
    if not runs.is_dir():
        raise NotFound(f"no folder of runs at {runs}; start a run, or name it by --runs")
    known = list_runs(runs)
    if run is not None and run not in known:
        names = ", ".join(known[:5]) or "none"
        raise NotFound(f"no run {run!r} under {runs}, the newest ones there: {names}")
    _check_free(host, port)
    return subprocess.Popen(_command(runs.resolve(), run, host, port))


def end(child: subprocess.Popen[bytes]) -> None:
    """End a server that `start` started; one that ended already is left alone."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(_END_TIMEOUT_S)


def _command(runs: Path, run: str | None, host: str, port: int) -> list[str]:
    options = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "theme.base": "light",
        "theme.primaryColor": BLUE,
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    shown = [] if run is None else [f"--run={run}"]
    return [sys.executable, "-m", "streamlit", "run", *flags, str(APP), "--", str(runs), *shown]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInput(
                f"cannot listen on {host} port {port}: {error.strerror}; choose another --port"
            ) from error
