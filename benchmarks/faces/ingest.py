"""How much of two cores' speed reaches the faces: `ingest` against two bare processes.

Bare means: plain Python processes that each loop over every other photo, read the file, decode it,
find the face, cut it out and encode it, and keep nothing. `ingest` does all of its own work on top:
scanning, planning, hashing, writing and publishing shards, drawing its pages. They take turns. The
clock of both leaves out what happens once: starting Ray, processes and actors, loading detectors.
The bare one runs from the moment when both processes are ready to the last photo; that of `ingest`
from its call to its return, less the time between its first actor's start and all actors' ready.

    python -m benchmarks.faces.ingest
    python -m benchmarks.faces.ingest --photos PHOTOS   # identity folders of your own, such as LFW
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import mean, median

from benchmarks.common import CPUS, embedded_ray, show, write_photos
from facequarry.datasets.config import IngestConfig
from facequarry.datasets.faces.shards import ShardSummary
from facequarry.datasets.ingest.ingest import ingest
from facequarry.datasets.ingest.shard_maker import ShardMaker
from facequarry.datasets.ingest.shard_tasks import ShardTask

NUM_PHOTOS = 4096
REPEATS = 3
CONFIG = IngestConfig(actors=CPUS)
_START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one turn, or medians over the turns."""

    wall_s: float
    cpu_s: float
    """Over all processes; other load on the machine hardly changes it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the turns gave; a ratio is the median of the turns' own ratios, bare over ingest."""

    photos: int
    bare: Times
    whole: Times
    wall_ratio: float
    cpu_ratio: float


class ReadyTogether(ShardMaker):
    """Waits for the other actor before its first shard, and notes when that was."""

    def ready(self) -> None:
        """Answer once all actors are loaded."""
        super().ready()
        mine = self._root / "ready" / str(os.getpid())
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.touch()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while len(list(mine.parent.iterdir())) < CPUS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {_START_TIMEOUT_S:.0f} s for {CPUS} actors")
            time.sleep(0.001)
        mine.write_text(str(time.monotonic()))
        self._cpu_s = time.process_time()

    def make(
        self, task: ShardTask, crashed: Collection[str] = (), *, careful: bool = False
    ) -> ShardSummary:
        """Make the task's shard, and note the CPU time since the start."""
        summary = super().make(task, crashed, careful=careful)
        notes = self._root / "cpu" / str(os.getpid())
        notes.parent.mkdir(exist_ok=True)
        notes.write_text(str(time.process_time() - self._cpu_s))
        return summary


def ingest_times(source: Path, root: Path) -> Times:
    """Return the times of one ingest, its actors' start left out."""
    looks: list[float] = []
    began, began_cpu_s = time.monotonic(), time.process_time()
    ingest(source, root, CONFIG, lambda _: looks.append(time.monotonic()), maker=ReadyTogether)
    ended = time.monotonic()
    ready = max(float(path.read_text()) for path in (root / "ready").iterdir())
    actors_cpu_s = sum(float(path.read_text()) for path in (root / "cpu").iterdir())
    return Times(
        wall_s=(looks[0] - began) + (ended - ready),
        cpu_s=actors_cpu_s + time.process_time() - began_cpu_s,
    )


def bare_times(photos: Sequence[Path]) -> Times:
    """Return the times of the bare processes, their start left out."""
    spawn = multiprocessing.get_context("spawn")
    together, answers = spawn.Barrier(CPUS), spawn.Queue()
    processes = [
        spawn.Process(target=_loop, args=(photos[part::CPUS], together, answers))
        for part in range(CPUS)
    ]
    for process in processes:
        process.start()
    spans = [answers.get(timeout=600) for _ in processes]
    for process in processes:
        process.join()
    return Times(
        wall_s=max(end for _, end, _ in spans) - min(begin for begin, _, _ in spans),
        cpu_s=sum(cpu_s for _, _, cpu_s in spans),
    )


def _loop(
    photos: Sequence[Path],
    together: Barrier,
    answers: Queue[tuple[float, float, float]],
) -> None:
    import cv2

    from facequarry.datasets.detection.crop import crop_face
    from facequarry.datasets.detection.decode import decode_photo
    from facequarry.datasets.detection.detectors import make_detector
    from facequarry.datasets.detection.meant_face import largest
    from facequarry.datasets.faces.jpeg import encode_jpeg

    cv2.setNumThreads(1)
    detector = make_detector(CONFIG)
    together.wait(timeout=_START_TIMEOUT_S)
    began, began_cpu_s = time.monotonic(), time.process_time()
    for photo in photos:
        image = decode_photo(photo.read_bytes(), max_pixels=CONFIG.max_photo_mpx * 1_000_000)
        detections = detector.detect(image)
        if detections:
            box = largest(detections).box
            margin_px = CONFIG.resolved_margin_px
            encode_jpeg(crop_face(image, box, crop_px=CONFIG.crop_px, margin_px=margin_px))
    answers.put((began, time.monotonic(), time.process_time() - began_cpu_s))


def measure(source: Path, folder: Path, repeats: int = REPEATS) -> Result:
    """Measure both, taking turns; `folder` takes the faces."""
    photos = sorted(source.glob("*/*.jpg"))
    bare: list[Times] = []
    whole: list[Times] = []
    with embedded_ray():
        for turn in range(repeats):
            bare.append(bare_times(photos))
            whole.append(ingest_times(source, folder / str(turn)))
        bare.append(bare_times(photos))
    # A machine's speed drifts: an ingest is held against what ran just before and just after it.
    beside = [_over([before, after], mean) for before, after in pairwise(bare)]
    turns = list(zip(beside, whole, strict=True))
    return Result(
        photos=len(photos),
        bare=_over(bare, median),
        whole=_over(whole, median),
        wall_ratio=median(one.wall_s / other.wall_s for one, other in turns),
        cpu_ratio=median(one.cpu_s / other.cpu_s for one, other in turns),
    )


def _over(times: Sequence[Times], combine: Callable[[list[float]], float]) -> Times:
    return Times(
        wall_s=combine([one.wall_s for one in times]), cpu_s=combine([one.cpu_s for one in times])
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faces.ingest")
    parser.add_argument("--photos", type=Path, help="identity folders; default: synthetic photos")
    parser.add_argument("--turns", type=int, default=REPEATS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        source = options.photos or write_photos(Path(folder) / "photos", NUM_PHOTOS)
        result = measure(source, Path(folder) / "faces", options.turns)
    rows = [
        (
            name,
            f"{result.photos / times.wall_s:.0f}",
            f"{1000 * times.cpu_s / result.photos:.2f}",
            *ratios,
        )
        for name, times, ratios in (
            (f"{CPUS} bare processes", result.bare, ("", "")),
            (
                f"ingest, {CPUS} actors",
                result.whole,
                (f"{result.wall_ratio:.3f}", f"{result.cpu_ratio:.3f}"),
            ),
        )
    ]
    show(
        f"{result.photos} photos to faces, {CONFIG.detector}, medians of {options.turns}",
        ("", "photos/s", "CPU ms a photo", "speed ÷ bare", "bare CPU ÷ CPU"),
        rows,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
