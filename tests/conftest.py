"""Fixtures that every tier shares."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

_GIB = 1 << 30

# Triton reads it when it is first imported, and other libraries import Triton.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shell that starts a job in the background lets it ignore Ctrl-C, and all that it starts with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests never assert on time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give files with tests on Ray to one worker of pytest-xdist, in order, others to the rest.

    One embedded Ray serves them all; they wait more than they compute, so others run beside them.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "ray" if is_on_ray(file) else file

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: not is_on_ray(item.nodeid.partition("::")[0]))


@functools.cache
def is_on_ray(file: str) -> bool:
    """Say whether tests of a file need a Ray, that of the session or one of their own."""
    text = (Path(__file__).parents[1] / file).read_text(encoding="utf-8")
    return "mark.ray" in text or "mark.cluster" in text


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One embedded Ray of two CPUs for the whole session; starting it takes seconds."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=_GIB,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos that lies beside the project while it is developed."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real photos are absent: no folder shared/data beside the project")
    return folder
