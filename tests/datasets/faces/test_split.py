from __future__ import annotations

import numpy as np
import pytest

from facequarry.datasets.faces.split import Split


class Identities:
    def __init__(self, names: list[str], faces: int = 2) -> None:
        self.identities = names
        self.identity_index = np.repeat(np.arange(len(names), dtype=np.int32), faces)


def test_parts_partition_the_faces() -> None:
    store = Identities([f"n{i:06d}" for i in range(200)])
    parts = [Split().faces(store, part) for part in ("train", "tuning", "held_out")]
    assert sorted(np.concatenate(parts)) == list(range(400))


def test_shares_come_out_about_right() -> None:
    names = [f"n{i:06d}" for i in range(5000)]
    parts: list[str] = [Split(train=0.7, tuning=0.1).of(name) for name in names]
    for part, share in (("train", 0.7), ("tuning", 0.1), ("held_out", 0.2)):
        assert parts.count(part) / 5000 == pytest.approx(share, abs=0.02)


def test_new_identities_move_nobody() -> None:
    few = [f"n{i:06d}" for i in range(50)]
    before = {name: Split().of(name) for name in few}
    after = {name: Split().of(name) for name in [f"a{i}" for i in range(50)] + few}
    assert all(after[name] == part for name, part in before.items())


def test_another_seed_is_another_split() -> None:
    names = [f"n{i:06d}" for i in range(200)]
    assert [Split().of(n) for n in names] != [Split(seed=1).of(n) for n in names]


def test_shares_that_hold_nobody_out_are_refused() -> None:
    with pytest.raises(ValueError, match="identities are held out"):
        Split(train=0.9, tuning=0.1)


def test_an_empty_part_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="ingest more identities"):
        Split(train=0.5, tuning=0.0).faces(Identities([]), "train")
