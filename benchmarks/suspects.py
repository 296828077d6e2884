"""Where suspects lead: mine people that a run was not trained on, and draw the sheet of suspects.

A network that was trained with a wrong label has learned it; one that was not may show it. The
sheet is drawn into the run's own pictures, as `suspects-held_out.png`.

    python -m benchmarks.suspects runs/half --duplicate-floor 0.1 --positive-cap 1.0
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from benchmarks.common import show
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.pictures.generation_pictures import suspect_pictures
from facequarry.jobs.pictures.suspect_sheet import suspect_sheet
from facequarry.jobs.state.plans import faces_of
from facequarry.jobs.state.runs_on_disk import read_run
from facequarry.miner import MinerConfig, mine
from facequarry.trainer.checkpoints.checkpoint import load_model
from facequarry.trainer.network.embed import embed

_TAIL = 300
"""Pairs or anchors at the end of a histogram that are printed."""


def main() -> None:
    """Mine, print where the distances end, and draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--part", default="held_out", choices=["train", "held_out", "everybody"])
    parser.add_argument("--duplicate-floor", type=float, required=True, help="d2")
    parser.add_argument("--positive-cap", type=float, required=True, help="d2")
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = RunDir(args.run)
    config = read_run(run)
    store = faces_of(config, run).open()
    model, _ = load_model(run.checkpoint(run.checkpoint_steps()[-1]))
    faces = np.arange(store.num_faces)
    if args.part != "everybody":
        faces = config.split.faces(store, args.part)
    mined = mine(
        embed(model, store, faces, device="cpu"),
        store.identity_index[faces],
        config=MinerConfig(
            duplicate_floor=args.duplicate_floor, positive_cap=args.positive_cap, threads=1
        ),
        row_ids=faces,
    )
    pictures = suspect_pictures(store, mined.suspects)
    if pictures:
        path = run.pictures / f"suspects-{args.part}.png"
        title = f"The worst of {mined.suspects.num_rows:,} suspect pairs, {args.part}"
        suspect_sheet(pictures, path, title=title)
        print(path)
    stats = mined.stats
    edges = np.linspace(0, 4, len(stats.d2_ap_histogram) + 1)
    far = np.cumsum(stats.d2_ap_histogram[::-1])[::-1]
    near = np.cumsum(stats.nearest_d2_an_histogram)
    rows = [
        ["pairs at this d2 or more", f"{edge:.2f}", f"{count}"]
        for edge, count in zip(edges[:-1], far, strict=True)
        if 0 < count <= _TAIL
    ]
    rows += [
        ["anchors with a negative below this d2", f"{edge:.2f}", f"{count}"]
        for edge, count in zip(edges[1:], near, strict=True)
        if 0 < count <= _TAIL
    ]
    rows += [["suspect pairs", reason, f"{n}"] for reason, n in _by_reason(mined.suspects)]
    show(f"{run.root.name}, {args.part}: {len(faces)} faces", ["", "d2", "count"], rows)


def _by_reason(suspects: pa.Table) -> list[tuple[str, int]]:
    reasons, counts = np.unique(suspects["reason"].to_pylist(), return_counts=True)
    return list(zip(reasons.tolist(), counts.tolist(), strict=True))


if __name__ == "__main__":
    main()
