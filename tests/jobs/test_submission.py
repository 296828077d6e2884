"""The same run as a job on a Ray head of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.datasets.photos import write_tree

pytestmark = pytest.mark.cluster

_START_TIMEOUT_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_dashboard(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll until the head answers, whatever it answers; fail with its log."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    url = f"http://127.0.0.1:{port}/api/gcs_healthz"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            continue
    pytest.fail(f"no Ray head within {_START_TIMEOUT_S:.0f} s:\n{log.read_text()}")


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """Start a Ray head of two CPUs; yield its dashboard's address. Ended by its own pid."""
    ray = shutil.which("ray", path=str(Path(sys.executable).parent))
    if ray is None:
        pytest.skip("the `ray` command is not beside this Python")
    # Ray's sockets lie in here, and their paths may not be longer than 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="fq-", dir="/tmp"))
    port = free_port()
    command = [ray, "start", "--head", "--block", "--num-cpus=2", f"--port={free_port()}"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--disable-usage-stats"]
    command += ["--object-store-memory=1000000000", f"--temp-dir={folder}"]
    # Every other Ray on this machine, the suite's own too, holds the default ports. Without its
    # agent's port a head answers, and takes no job.
    for port_flag in ("ray-client-server-port", "dashboard-agent-listen-port"):
        command.append(f"--{port_flag}={free_port()}")
    log = folder / "head.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_for_dashboard(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def submit(address: str, flags: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "facequarry.jobs", "submit", "--address", address]
    command += ["--timeout-s", "120", "run", *flags]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=400, cwd=Path(__file__).parents[2]
    )


def test_a_submitted_run_is_the_same_run(head: str, tmp_path: Path) -> None:
    photos = write_tree(tmp_path / "photos", {f"n{n:06d}": 5 for n in range(12)})
    flags = ["--name", "job", "--photos", str(photos), "--faces", str(tmp_path / "faces")]
    flags += ["--runs", str(tmp_path / "runs"), "--ingest.detector", "none"]
    flags += ["--ingest.crop-px", "32", "--trainer.steps", "20", "--trainer.batch", "8"]
    flags += ["--trainer.checkpoint-every", "10", "--trainer.embedding-dim", "8"]
    done = submit(head, flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "triplets consumed" in done.stdout
    run = tmp_path / "runs" / "job"
    assert json.loads((run / "config.json").read_text())["cluster"]["address"] == "auto"
    assert (run / "checkpoints" / "step=000000020" / "manifest.json").is_file()
    assert (run / "generations" / "gen=000001" / "manifest.json").is_file()

    again = submit(head, flags)
    assert again.returncode == 2, again.stdout + again.stderr
    assert "go on with it by --resume" in again.stdout


def test_no_cluster_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "facequarry.jobs", "submit", "--timeout-s", "0.1"]
    command += ["--address", f"http://127.0.0.1:{free_port()}", "run", "--name", "x"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 1
    assert "ray start --head" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
