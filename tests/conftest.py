"""Fixtures that every tier shares."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

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


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give tests on Ray to one worker of pytest-xdist, and other files to the rest.

    One embedded Ray serves them all; they wait more than they compute, so others run beside them.
    """
    item.add_marker(pytest.mark.xdist_group("ray" if is_on_ray(item) else str(item.path)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    items.sort(key=lambda item: not is_on_ray(item))


def is_on_ray(item: pytest.Item) -> bool:
    """Say whether a test needs a Ray, that of the session or one of its own."""
    return any(item.get_closest_marker(name) for name in ("ray", "cluster"))


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
