from __future__ import annotations

import numpy as np
import pyarrow as pa

from facequarry.datasets.generations.triplets import TRIPLETS
from facequarry.miner.refresh.pack import BLOCK_ROWS, pack


def make_table(num_identities: int = 30, faces: int = 5, positives: int = 3) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = []
    for identity in range(num_identities):
        for anchor in range(faces):
            for positive in rng.permutation([f for f in range(faces) if f != anchor])[:positives]:
                negative = int(rng.integers(num_identities * faces))
                rows.append((identity * faces + anchor, identity * faces + int(positive), negative))
    a, p, n = zip(*rows, strict=True)
    d2 = np.linspace(0, 1, len(rows), dtype=np.float32)
    columns = {"anchor": a, "positive": p, "negative": n, "d2_ap": d2, "d2_an": d2}
    return pa.table({**columns, "kind": ["semi_hard"] * len(rows)}).cast(TRIPLETS)


def identity_of(table: pa.Table, faces: int = 5) -> np.ndarray:
    return np.asarray(table["anchor"].to_numpy() // faces)


def faces_per_triplet(table: pa.Table, batch: int) -> float:
    rows = np.stack([table[c].to_numpy() for c in ("anchor", "positive", "negative")], axis=1)
    cuts = range(0, len(rows) - batch + 1, batch)
    return float(np.mean([len(np.unique(rows[s : s + batch])) / batch for s in cuts]))


def test_packing_keeps_every_row_once() -> None:
    table = make_table()
    packed = pack(table, identity_of(table), seed=3)
    as_rows = [sorted(map(str, t.to_pylist())) for t in (table, packed)]
    assert as_rows[0] == as_rows[1]


def test_packing_does_not_depend_on_the_order_of_the_rows() -> None:
    table = make_table()
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    packed = pack(table, identity_of(table), seed=3)
    assert packed.equals(pack(shuffled, identity_of(shuffled), seed=3))


def test_packed_batches_share_more_faces_than_shuffled_ones() -> None:
    table = make_table()
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    packed = pack(table, identity_of(table), seed=3)
    assert faces_per_triplet(packed, 32) < 0.9 * faces_per_triplet(shuffled, 32)


def test_a_batch_mixes_identities() -> None:
    table = make_table()
    packed = pack(table, identity_of(table), seed=3)
    identities = identity_of(packed)
    longest = max(len(run) for run in np.split(identities, np.flatnonzero(np.diff(identities)) + 1))
    assert longest <= 2 * BLOCK_ROWS
    assert len(np.unique(identities[:64])) >= 64 // (2 * BLOCK_ROWS)


def test_an_empty_table_stays_empty() -> None:
    table = make_table().slice(0, 0)
    assert pack(table, identity_of(table), seed=0).num_rows == 0
