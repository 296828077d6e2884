"""How many rows of a fresh generation are in their band, no step taken, as faces are changed.

Each generation of a run whose checkpoint is kept is looked at with the very weights that mined it:
as it was mined, with faces as they are in the photo, with faces changed anew, and with the batch's
own statistics in place of the running ones, as training has them.

    python -m benchmarks.training.band runs/lfw
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.common import show
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import Generation, load_generation
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.state.plans import faces_of
from facequarry.jobs.state.runs_on_disk import read_run
from facequarry.trainer.batch.augment import augment, generation_seed
from facequarry.trainer.checkpoints.checkpoint import load_model
from facequarry.trainer.config import Augmentation
from facequarry.trainer.losses import triplet_loss
from facequarry.trainer.network.embed import to_input

BATCH, BATCHES = 64, 6
MIRRORED = Augmentation(flip=True, jitter_px=0)

Change = tuple[Augmentation, tuple[int, int]] | None


def shares(
    model: nn.Module,
    store: FaceStore,
    generation: Generation,
    change: Change,
    *,
    margin: float,
    batch_statistics: bool,
) -> npt.NDArray[np.float64]:
    """Return (still semi-hard, hard, easy) over the first `BATCH` x `BATCHES` rows."""
    columns = (generation.anchors, generation.positives, generation.negatives)
    rows = np.stack(columns, axis=1)[: BATCH * BATCHES]
    found = []
    for start in range(0, len(rows), BATCH):
        faces, positions = np.unique(rows[start : start + BATCH], return_inverse=True)
        images = to_input(store.decode(faces), "cpu")
        if change is not None:
            images = augment(images, faces, change[0], seed=change[1])
        with torch.no_grad():
            embeddings = model.train(batch_statistics)(images)
        triplets = torch.from_numpy(positions.reshape(-1, 3))
        result = triplet_loss(embeddings, triplets, margin=margin)
        found.append([result.in_band_share, result.now_hard_share, result.now_easy_share])
    mean: npt.NDArray[np.float64] = np.asarray(found, np.float64).mean(axis=0)
    return mean


def main() -> None:
    """Look at every generation that can be and print the shares that are still semi-hard."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.band", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder")
    run = RunDir(parser.parse_args().run.resolve())
    config = read_run(run)
    at = faces_of(config, run)
    rows = []
    for number in run.generation_numbers():
        generation = load_generation(run.generation(number))
        if generation.mined_at_step not in run.checkpoint_steps():
            continue
        store = at.open(generation.snapshot)
        as_mined: Change = None
        if (told := generation.manifest.get("augmentation")) is not None:
            seed = generation_seed(generation.manifest["plan"]["seed"])
            as_mined = (Augmentation(**told), seed)
        anew = (MIRRORED, (config.seed, generation.mined_at_step))
        ways: list[tuple[Change, bool]] = [
            (as_mined, False),
            (None, False),
            (anew, False),
            (as_mined, True),
            (anew, True),
        ]
        cells = []
        for change, batch_statistics in ways:
            # A fresh one: batch statistics move the running ones.
            model, _ = load_model(run.checkpoint(generation.mined_at_step))
            share = shares(
                model,
                store,
                generation,
                change,
                margin=config.miner.margin,
                batch_statistics=batch_statistics,
            )
            cells.append(f"{100 * share[0]:.0f} %")
        rows.append((str(number), str(generation.mined_at_step), *cells))
    show(
        f"still semi-hard, {BATCH * BATCHES} rows of each generation of {run.root.name}",
        ("", "step", "as mined", "as in the photo", "mirrored anew", "batch stats", "both"),
        rows,
    )


if __name__ == "__main__":
    main()
