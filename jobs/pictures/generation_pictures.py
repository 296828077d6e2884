"""The pictures of one generation: the page of figures, triplets, and the suspects' sheet.

All lie in the run's own folder: crops of faces go nowhere else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facequarry.datasets.disk.publish import sha256_file
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import (
    SUSPECTS_FILE,
    CorruptGeneration,
    read_generation_manifest,
    read_table,
)
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.pictures.mining_page import mining_page
from facequarry.jobs.pictures.suspect_sheet import SuspectPicture, suspect_sheet, worst_suspects
from facequarry.jobs.pictures.triplet_page import TripletPicture, triplet_page
from facequarry.miner.selection.observe import Identity
from facequarry.trainer.batch.run_faces import RunFaces

_PAGE_TRIPLETS = 10


def draw_generation(run: RunDir, faces: RunFaces, number: int) -> dict[str, Path]:
    """Draw a generation's figures, a page of its triplets and a sheet of its suspects.

    Returns:
        The pictures by name.
    """
    manifest = read_generation_manifest(run.generation(number))
    store = faces.reach(manifest["snapshot"])
    which = f"generation {number}, mined at step {manifest['mined_at_step']}"
    pictures = {"mining": run.pictures / "mining.png"}
    mining_page(
        manifests_until(run, number),
        pictures["mining"],
        title=f"What was mined: {which}",
        name_of=name_of(store),
    )
    margin = manifest["config"]["margin"]
    chosen = some_triplets(run, store, number)
    if chosen:
        pictures["triplets"] = run.pictures / "triplets.png"
        title = f"Mined triplets of {which}, margin {margin:g}"
        triplet_page(chosen, margin, pictures["triplets"], title=title)
    suspects = suspects_of(run, store, number)
    if suspects:
        pictures["suspects"] = run.pictures / "suspects.png"
        suspect_sheet(
            suspects,
            pictures["suspects"],
            title=f"The worst of {manifest['suspects']:,} suspect pairs of {which}",
        )
    else:  # that of an earlier generation would be taken for this one's
        (run.pictures / "suspects.png").unlink(missing_ok=True)
    return pictures


def name_of(store: FaceStore) -> Callable[[Identity], str]:
    """Return what turns an identity_index into the identity's name."""
    return lambda identity: store.identities[int(identity)]


def manifests_until(run: RunDir, number: int) -> list[dict[str, Any]]:
    """Return the manifests of the generations up to this one that are there and sound."""
    manifests = []
    for earlier in run.generation_numbers():
        if earlier <= number:
            # Retired meanwhile, or damaged, of which the queue says more.
            with contextlib.suppress(FileNotFoundError, CorruptGeneration):
                manifests.append(read_generation_manifest(run.generation(earlier)))
    return [manifest for manifest in manifests if "stats" in manifest]


def some_triplets(run: RunDir, store: FaceStore, number: int) -> list[TripletPicture]:
    """Return triplets spread evenly over a generation, with their crops."""
    table = read_table(run.generation(number))
    count = min(_PAGE_TRIPLETS, table.num_rows)
    rows = table.take(np.linspace(0, table.num_rows - 1, count).astype(int)).to_pylist()
    pictures = []
    for row in rows:
        triplet = [row["anchor"], row["positive"], row["negative"]]
        crops = store.decode(triplet)
        names = [store.identities[store.identity_index[face]] for face in triplet]
        pictures.append(
            TripletPicture(
                crops=(crops[0], crops[1], crops[2]),
                names=(names[0], names[1], names[2]),
                d2_ap=row["d2_ap"],
                d2_an=row["d2_an"],
                kind=row["kind"],
            )
        )
    return pictures


def suspects_of(run: RunDir, store: FaceStore, number: int) -> list[SuspectPicture]:
    """Return the worst suspects of a generation, with their crops.

    Raises:
        CorruptGeneration: their file is missing or its bytes changed.
    """
    path = run.generation(number) / SUSPECTS_FILE
    published = read_generation_manifest(run.generation(number))["suspects_sha256"]
    if not path.is_file() or sha256_file(path) != published:
        raise CorruptGeneration(
            f"{path} is missing or its bytes changed; mine it again where its checkpoint is kept "
            f"(facequarry mine --run {run.root} --replay gen={number})"
        )
    return suspect_pictures(store, pq.read_table(path))


def suspect_pictures(store: FaceStore, suspects: pa.Table) -> list[SuspectPicture]:
    """Return the worst of a pass's suspects, with their crops."""
    pictures = []
    for suspect in worst_suspects(suspects, store.identity_index):
        pair = [suspect.face_a, suspect.face_b]
        crops, sources = store.decode(pair), store.sources(pair)
        names = [store.identities[store.identity_index[face]] for face in pair]
        pictures.append(
            SuspectPicture(
                suspect=suspect,
                crops=(crops[0], crops[1]),
                names=(names[0], names[1]),
                sources=(sources[0], sources[1]),
            )
        )
    return pictures
