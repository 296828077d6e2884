"""The files of one generation: write them, find damaged ones, name what differs between two.

`generations.triplets` reads generations; this is the side that makes and compares them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facequarry.datasets.disk.publish import MANIFEST, SCHEMA_VERSION, dump_json, sha256_file
from facequarry.datasets.generations.triplets import SUSPECTS_FILE, TRIPLETS

PART_ROWS = 1 << 20
TIMING = "timing"
"""The one section of the manifest that a replay does not repeat."""


def write_generation(
    folder: Path,
    table: pa.Table,
    suspects: pa.Table,
    *,
    number: int,
    mined_at_step: int,
    facts: Mapping[str, object],
    timing: Mapping[str, object],
    part_rows: int = PART_ROWS,
) -> dict[str, Any]:
    """Write a generation into a folder that is not published yet; return its manifest as read.

    Args:
        folder: it exists and is empty.
        table: rows with the columns of `TRIPLETS`, in lease order.
        suspects: pairs kept out of training, for a person to clean.
        number: the generation's number in the run.
        mined_at_step: step of the checkpoint that was mined.
        facts: everything that determines the bytes.
        timing: seconds by stage, and with what it was made.
        part_rows: rows a part holds.
    """
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "generation": number,
        "mined_at_step": mined_at_step,
        **write_tables(folder, table, suspects, part_rows=part_rows),
        **facts,
        TIMING: dict(timing),
    }
    text = dump_json(manifest)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    as_read: dict[str, Any] = json.loads(text)
    return as_read


def write_tables(
    folder: Path, table: pa.Table, suspects: pa.Table, *, part_rows: int = PART_ROWS
) -> dict[str, Any]:
    """Write the Parquet files of mined triplets; return what their manifest says of them.

    Args:
        folder: as for `write_generation`, and so are the tables and `part_rows`.
        table: the triplets.
        suspects: the pairs that were set aside.
        part_rows: rows a part holds.
    """
    table = table.select(TRIPLETS.names).cast(TRIPLETS)
    parts = []
    for index, start in enumerate(range(0, max(table.num_rows, 1), part_rows)):
        part = folder / f"part-{index:05d}.parquet"
        rows = table.slice(start, part_rows)
        pq.write_table(rows, part, compression="zstd")
        parts.append({"file": part.name, "rows": rows.num_rows, "sha256": sha256_file(part)})
    pq.write_table(suspects, folder / SUSPECTS_FILE, compression="zstd")
    return {
        "rows": table.num_rows,
        "parts": parts,
        "suspects": suspects.num_rows,
        "suspects_sha256": sha256_file(folder / SUSPECTS_FILE),
    }


def sha256_by_file(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the sha256 of each Parquet file that a manifest names."""
    files = {part["file"]: part["sha256"] for part in manifest["parts"]}
    return files | {SUSPECTS_FILE: manifest["suspects_sha256"]}


def damaged_files(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Return the names of the Parquet files that are missing or not what the manifest says."""
    return [
        name
        for name, sha256 in sha256_by_file(manifest).items()
        if not (folder / name).is_file() or sha256_file(folder / name) != sha256
    ]


def first_difference(published: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Name the first thing in which two manifests of a generation differ; None if in nothing.

    Files come first, in order, and the timing is left out.
    """
    ours, theirs = sha256_by_file(published), sha256_by_file(other)
    for name in [*ours, *theirs]:
        was, now = ours.get(name), theirs.get(name)
        if was != now:
            return f"{name} has sha256 {_brief(now)} in place of {_brief(was)}"
    return _first_in(
        {key: value for key, value in published.items() if key != TIMING},
        {key: value for key, value in other.items() if key != TIMING},
        "",
    )


def _first_in(was: object, now: object, path: str) -> str | None:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in sorted(was.keys() | now.keys()):
            where = f"{path}.{key}" if path else str(key)
            if key not in was or key not in now:
                return f"{where} of the manifest is {'new' if key in now else 'absent'}"
            found = _first_in(was[key], now[key], where)
            if found:
                return found
        return None
    return None if was == now else f"{path} of the manifest is {now} in place of {was}"


def _brief(sha256: str | None) -> str:
    return "none (no such file)" if sha256 is None else f"{sha256[:12]}…"
