"""Submit a run to a Ray cluster as a job, and follow it.

The job gets one file, the run's resolved configuration with absolute paths, and executes the same
`facequarry run` that a laptop does. Data never travels with a job: paths are on storage that all
nodes see.
"""

from __future__ import annotations

import asyncio
import shlex
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from facequarry.datasets.disk.errors import Failure
from facequarry.datasets.disk.publish import write_json
from facequarry.jobs.config import RunConfig, to_tree
from facequarry.jobs.state.runs_on_disk import absolute

CONFIG_FILE = "run.json"
_NOT_READY = "No available agent"
_POLL_S = 1.0
_END_TIMEOUT_S = 60.0


class JobFailed(Failure):
    """A cluster cannot be reached or would not take the job."""


def submit_run(
    config: RunConfig, *, flags: Sequence[str], address: str, python: str, timeout_s: float
) -> str:
    """Submit a run; return the job's id.

    Args:
        config: the run; its paths are made absolute here.
        flags: further flags of `facequarry run`, such as --resume.
        address: the cluster's dashboard, such as http://127.0.0.1:8265.
        python: the interpreter on the head node.
        timeout_s: longest wait for the cluster.

    Raises:
        JobFailed: nothing answers at the address, or the cluster refuses.
    """
    config = absolute(config)
    config = replace(config, cluster=replace(config.cluster, address="auto"))
    words = [python, "-m", "facequarry.jobs", "run", "--config", CONFIG_FILE, *flags]
    job = f"{config.name}-{uuid.uuid4().hex[:8]}"
    deadline = time.monotonic() + timeout_s
    client = connect(address, timeout_s=timeout_s)
    with tempfile.TemporaryDirectory(prefix="facequarry-job-") as folder:
        write_json(Path(folder) / CONFIG_FILE, to_tree(config))
        while True:
            try:
                client.submit_job(
                    entrypoint=shlex.join(words),
                    submission_id=job,
                    runtime_env={"working_dir": folder},
                    metadata={"run": str(config.runs / config.name)},
                )
                return job
            except RuntimeError as error:
                # A head that answers may still be starting what takes jobs.
                if _NOT_READY not in str(error):
                    raise JobFailed(f"the cluster at {address} refused the job: {error}") from error
                if time.monotonic() > deadline:
                    raise JobFailed(
                        f"the cluster at {address} was not ready to take a job within "
                        f"{timeout_s:.0f} s: it may still be starting, or another Ray on its node "
                        "holds its agent's port (ray start --dashboard-agent-listen-port)"
                    ) from error
            time.sleep(_POLL_S)


def connect(address: str, *, timeout_s: float) -> JobSubmissionClient:
    """Return a client, waiting up to `timeout_s` for a cluster that is just starting.

    Raises:
        JobFailed: nothing answers, or not without a token.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return JobSubmissionClient(address)
        except AuthenticationError as error:
            raise JobFailed(
                f"the cluster at {address} wants its token; put it into ~/.ray/auth_token: {error}"
            ) from error
        except (ConnectionError, RuntimeError) as error:
            if time.monotonic() > deadline:
                raise JobFailed(
                    f"no Ray cluster answered at {address} within {timeout_s:.0f} s; start one "
                    "with: ray start --head --dashboard-host=127.0.0.1"
                ) from error
            time.sleep(_POLL_S)


def follow(address: str, job: str, out: TextIO) -> int:
    """Copy a job's log to `out` until it ends; return its exit code (1 if it has none).

    Raises:
        JobFailed: the log broke off before the job ended.
    """
    client = JobSubmissionClient(address)

    async def copy() -> None:
        async for text in client.tail_job_logs(job):
            out.write(text)
            out.flush()

    asyncio.run(copy())
    deadline = time.monotonic() + _END_TIMEOUT_S
    while not client.get_job_status(job).is_terminal():
        if time.monotonic() > deadline:
            raise JobFailed(
                f"the log of job {job} broke off while the job goes on; follow it with: "
                f"ray job logs --address {address} --follow {job}"
            )
        time.sleep(_POLL_S)
    if client.get_job_status(job) == JobStatus.SUCCEEDED:
        return 0
    code = client.get_job_info(job).driver_exit_code
    return 1 if code is None else code
