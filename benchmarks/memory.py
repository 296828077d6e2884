"""Whether an ingest's memory grows with its photos: 1,000 against 9,525.

Peak resident memory of the driver and of the largest detection actor, from the kernel's own high
water mark. Every ingest runs in a process of its own. The photos are small synthetic ones and the
detector is `none`: what is held for a photo is the same whatever detector looks at it.

    python -m benchmarks.memory
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.common import CPUS, embedded_ray, show, write_photos
from facequarry.datasets.config import IngestConfig
from facequarry.datasets.faces.shards import ShardSummary
from facequarry.datasets.ingest.ingest import ingest
from facequarry.datasets.ingest.shard_maker import ShardMaker
from facequarry.datasets.ingest.shard_tasks import ShardTask

NUM_PHOTOS = (1000, 9525)
CONFIG = IngestConfig(detector="none", actors=CPUS)
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peak resident bytes."""

    photos: int
    driver: int
    actor: int
    """The largest of the actors."""


class Weighed(ShardMaker):
    """Notes its process's peak after every shard."""

    def make(
        self, task: ShardTask, crashed: Collection[str] = (), *, careful: bool = False
    ) -> ShardSummary:
        """Make the task's shard."""
        summary = super().make(task, crashed, careful=careful)
        notes = self._root / "peaks" / str(os.getpid())
        notes.parent.mkdir(exist_ok=True)
        notes.write_text(str(peak_bytes()))
        return summary


def peak_bytes() -> int:
    """Return this process's peak resident memory, bytes."""
    # Not getrusage: its peak is inherited from the process that started this one.
    return _status("VmHWM:")


def resident_bytes() -> int:
    """Return this process's resident memory, bytes."""
    return _status("VmRSS:")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name[:-1]}; this benchmark needs Linux")


def measure(folder: Path, num_photos: int) -> Peaks:
    """Ingest in a process of its own and return the peaks."""
    write_photos(folder / "photos", num_photos)
    command = [sys.executable, "-m", "benchmarks.memory", "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"the ingest of {num_photos} photos failed: {done.stderr[-500:]}")
    return Peaks(**json.loads(done.stdout.splitlines()[-1]))


def _ingest(folder: Path) -> Peaks:
    root = folder / "faces"
    with embedded_ray():
        report = ingest(folder / "photos", root, CONFIG, maker=Weighed)
        driver = peak_bytes()
    actor = max(int(path.read_text()) for path in (root / "peaks").iterdir())
    return Peaks(report.photos, driver, actor)


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--folder", type=Path, help="ingest its photos/ and print JSON")
    folder = parser.parse_args(arguments).folder
    if folder is not None:
        print(json.dumps(asdict(_ingest(folder))))
        return
    rows: list[Peaks] = []
    for num_photos in NUM_PHOTOS:
        with tempfile.TemporaryDirectory() as name:
            rows.append(measure(Path(name), num_photos))
    small, large = rows
    show(
        f"peak resident memory of an ingest, {CPUS} actors, detector none",
        ("photos", "driver MiB", "largest actor MiB"),
        [
            *(
                (str(row.photos), f"{row.driver / _MIB:.1f}", f"{row.actor / _MIB:.1f}")
                for row in rows
            ),
            ("ratio", f"{large.driver / small.driver:.3f}", f"{large.actor / small.actor:.3f}"),
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
