"""Published generations for tests of the queue: rows on disk, or a manifest alone."""

from __future__ import annotations

import pyarrow as pa

from facequarry.datasets.disk.publish import write_json
from facequarry.datasets.generations.triplets import TRIPLETS
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.serve import QueueSettings
from tests.datasets.generations import publish_generation

BATCH = 4


def queue_settings(**changed: object) -> QueueSettings:
    values: dict[str, object] = {
        "batch": BATCH,
        "carry_over": 0.0,
        "seed": 0,
        "prefetch": 2,
        "random_until_mined": False,
        "block_every": None,
    }
    return QueueSettings(**(values | changed))  # type: ignore[arg-type]


def publish(
    run: RunDir,
    number: int,
    *,
    mined_at_step: int,
    rows: int = 40,
    first_face: int = 0,
    token: int | None = None,
    **facts: object,
) -> None:
    """Publish a generation of `rows` triplets, each of one face from `first_face` on."""
    faces = range(first_face, first_face + rows)
    table = pa.table(
        {
            "anchor": faces,
            "positive": faces,
            "negative": faces,
            "d2_ap": [0.1] * rows,
            "d2_an": [0.2] * rows,
            "kind": ["semi_hard"] * rows,
        }
    ).cast(TRIPLETS)
    publish_generation(
        run.generation(number),
        table,
        pa.table({"reason": pa.array([], pa.string())}),
        number=number,
        mined_at_step=mined_at_step,
        facts={"snapshot": 1, **facts},
        timing={"token": token},
    )


def publish_manifest(run: RunDir, number: int, *, mined_at_step: int, rows: int) -> None:
    """Publish what the queue reads of a generation; there are no rows behind it."""
    part = {"file": "part-00000.parquet", "rows": rows, "sha256": f"{number}"}
    manifest = {
        "generation": number,
        "mined_at_step": mined_at_step,
        "rows": rows,
        "snapshot": 1,
        "parts": [part],
    }
    write_json(run.generation(number) / "manifest.json", manifest)


def publish_checkpoint_folder(run: RunDir, step: int) -> None:
    """Publish a checkpoint's name: a manifest, no weights."""
    write_json(run.checkpoint(step) / "manifest.json", {"step": step})
