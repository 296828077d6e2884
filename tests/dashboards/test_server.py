"""The server listens where it may, and ends with the one who started it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from facequarry.dashboards.server import end, serve, start
from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.runs.run_dir import RunDir

DEADLINE_S = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended with code {process.returncode}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"no answer from 127.0.0.1:{port} within {DEADLINE_S:.0f} s")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "faces.example.org", ""])
def test_a_host_that_others_reach_is_refused(made: RunDir, host: str) -> None:
    with pytest.raises(ValueError, match="the page has no login.*--behind-auth-proxy"):
        serve(made.root.parent, None, host=host, port=free_port())


def test_a_port_out_of_range_is_refused(made: RunDir) -> None:
    with pytest.raises(ValueError, match="port is 70000, expected 1 to 65535"):
        start(made.root.parent, None, host="127.0.0.1", port=70000)


def test_a_port_that_is_taken_is_refused(made: RunDir) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"cannot listen on 127.0.0.1 port {port}"):
            start(made.root.parent, None, host="127.0.0.1", port=port)


def test_absent_folders_and_runs_are_refused(made: RunDir, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder of runs"):
        start(tmp_path / "absent", None, host="127.0.0.1", port=free_port())
    with pytest.raises(FileNotFoundError, match="no run 'other'.*made"):
        start(made.root.parent, "other", host="127.0.0.1", port=free_port())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_server_and_gives_0(made: RunDir, how: signal.Signals) -> None:
    port = free_port()
    code = (
        "import sys; from pathlib import Path; from facequarry.dashboards.server import serve; "
        f"sys.exit(serve(Path({str(made.root.parent)!r}), None, host='127.0.0.1', port={port}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    try:
        wait_until_healthy(port, parent)
        parent.send_signal(how)
        assert parent.wait(DEADLINE_S) == 0
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    finally:
        end(parent)
