"""How much of two cores' speed reaches the faces: `ingest` against two bare processes.

Bare means: plain Python processes that each loop over every other photo, read the file, decode it,
find the face, cut it out and encode it, and keep nothing. `ingest` does all of its own work on top:
scanning, planning, hashing, writing and publishing shards, drawing its pages. They take turns. The
clock of both leaves out what happens once: starting Ray, processes and actors, loading detectors.
The bare one runs from the moment when both processes are ready to the last photo; that of `ingest`
from its call to its return, less the time between its first actor's start and all actors' ready.

    python -m benchmarks.ingest
    python -m benchmarks.ingest --photos PHOTOS     # identity folders of your own, such as LFW
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

from benchmarks.common import CPUS, embedded_ray, show, write_photos
from datasets.config import IngestConfig
from datasets.ingest import ingest
from datasets.shard import ShardMaker

NUM_PHOTOS = 3000
REPEATS = 3
CONFIG = IngestConfig(actors=CPUS)
_START_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Row:
    """Medians over the turns."""

    photos: int
    bare_photos_per_s: float
    ingest_photos_per_s: float
    ratio: float
    """Median of the turns' own ratios."""


class ReadyTogether(ShardMaker):
    """Waits for the other actor before its first shard, and notes when that was."""

    def ready(self) -> None:
        """Answer once all actors are loaded."""
        mine = self._root / "ready" / str(os.getpid())
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.touch()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while len(list(mine.parent.iterdir())) < CPUS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {_START_TIMEOUT_S:.0f} s for {CPUS} actors")
            time.sleep(0.001)
        mine.write_text(str(time.monotonic()))


def ingest_s(source: Path, root: Path) -> float:
    """Return the seconds of one ingest, its actors' start left out."""
    looks: list[float] = []
    began = time.monotonic()
    ingest(source, root, CONFIG, lambda _: looks.append(time.monotonic()), maker=ReadyTogether)
    ended = time.monotonic()
    ready = max(float(path.read_text()) for path in (root / "ready").iterdir())
    return (looks[0] - began) + (ended - ready)


def bare_s(photos: Sequence[Path]) -> float:
    """Return the seconds of the bare processes, their start left out."""
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
    return float(max(end for _, end in spans) - min(begin for begin, _ in spans))


def _loop(
    photos: Sequence[Path],
    together: Barrier,
    answers: Queue[tuple[float, float]],
) -> None:
    import cv2

    from datasets.crop import crop_face, encode_jpeg
    from datasets.decode import decode_photo
    from datasets.detect import largest, make_detector

    cv2.setNumThreads(1)
    detector = make_detector(CONFIG)
    together.wait(timeout=_START_TIMEOUT_S)
    began = time.monotonic()
    for photo in photos:
        image = decode_photo(photo.read_bytes(), max_pixels=CONFIG.max_photo_mpx * 1_000_000)
        detections = detector.detect(image)
        if detections:
            box = largest(detections).box
            margin_px = CONFIG.resolved_margin_px
            encode_jpeg(crop_face(image, box, crop_px=CONFIG.crop_px, margin_px=margin_px))
    answers.put((began, time.monotonic()))


def measure(source: Path, folder: Path, repeats: int = REPEATS) -> Row:
    """Measure both, taking turns; `folder` takes the faces."""
    photos = sorted(source.glob("*/*.jpg"))
    turns: list[tuple[float, float]] = []
    with embedded_ray():
        for turn in range(repeats):
            turns.append((bare_s(photos), ingest_s(source, folder / str(turn))))
    return Row(
        photos=len(photos),
        bare_photos_per_s=len(photos) / median(bare for bare, _ in turns),
        ingest_photos_per_s=len(photos) / median(whole for _, whole in turns),
        ratio=median(bare / whole for bare, whole in turns),
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest")
    parser.add_argument("--photos", type=Path, help="identity folders; default: synthetic photos")
    parser.add_argument("--turns", type=int, default=REPEATS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        source = options.photos or write_photos(Path(folder) / "photos", NUM_PHOTOS)
        row = measure(source, Path(folder) / "faces", options.turns)
    show(
        f"photos to faces, {row.photos} photos, {CONFIG.detector}, {CPUS} processes, "
        f"medians of {options.turns}",
        ("", "photos/s", "ingest / bare"),
        [
            (f"{CPUS} bare processes", f"{row.bare_photos_per_s:.0f}", ""),
            (f"ingest, {CPUS} actors", f"{row.ingest_photos_per_s:.0f}", f"{row.ratio:.3f}"),
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
