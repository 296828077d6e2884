"""Pages of triplets show each row once, with the faces that its indices name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from facequarry.dashboards.drawing.cards import triplet_card
from facequarry.dashboards.facts.browse import (
    ORDERS,
    PAGE_ROWS,
    read_faces,
    read_generation,
    read_page,
)
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.runs.run_dir import RunDir
from tests.dashboards.made_run import FACES, identity_of


def test_faces_are_those_of_the_face_store(made: RunDir, tmp_path: Path) -> None:
    root = made.root.parent.parent / "faces"
    store = FaceStore.open(root, tmp_path)
    faces = read_faces(root, 1, [0, 39, 40, FACES - 1])
    assert list(faces) == [0, 39, 40, FACES - 1]
    for index, face in faces.items():
        assert face.jpeg == store.jpeg(index)
        assert face.source == store.sources([index])[0]
        assert face.identity == identity_of(index)


def test_a_face_out_of_range_is_refused(made: RunDir) -> None:
    with pytest.raises(IndexError, match=f"face_index {FACES} is out of range"):
        read_faces(made.root.parent.parent / "faces", 1, [FACES])


@pytest.mark.parametrize("order", ORDERS)
def test_the_pages_of_every_order_hold_each_row_once(made: RunDir, order: str) -> None:
    generation = read_generation(made.root, 1)
    faces = made.root.parent.parent / "faces"
    first = read_page(generation, faces, order=order, index=0)
    pages = [read_page(generation, faces, order=order, index=i) for i in range(first.num_pages)]
    rows = [triplet.row for page in pages for triplet in page.triplets]
    assert sorted(rows) == list(range(generation.table.num_rows))
    assert all(len(page.triplets) <= PAGE_ROWS for page in pages)
    assert read_page(generation, faces, order=order, index=10_000) == pages[-1]


def test_orders_by_distance_begin_with_what_they_say(made: RunDir) -> None:
    generation = read_generation(made.root, 1)
    faces = made.root.parent.parent / "faces"
    nearest = read_page(generation, faces, order="nearest_negative", index=0).triplets[0]
    assert nearest.d2_an == np.min(generation.table["d2_an"].to_numpy())
    farthest = read_page(generation, faces, order="farthest_positive", index=0).triplets[0]
    assert farthest.d2_ap == np.max(generation.table["d2_ap"].to_numpy())


def test_a_triplet_has_two_identities_and_its_distances(made: RunDir) -> None:
    generation = read_generation(made.root, 0)
    page = read_page(generation, made.root.parent.parent / "faces", order="leased", index=0)
    for triplet in page.triplets:
        assert triplet.anchor.identity == triplet.positive.identity != triplet.negative.identity
        assert triplet.kind == "semi_hard"
        assert triplet.d2_ap < triplet.d2_an < triplet.d2_ap + 0.2


def test_histograms_count_the_pairs(made: RunDir) -> None:
    generation = read_generation(made.root, 0)
    assert generation.d2_ap.sum() == generation.stats["pairs"]
    assert generation.nearest_d2_an.sum() == generation.stats["num_anchors"]
    assert len(generation.d2_edges) == len(generation.d2_ap) + 1


def test_faces_that_are_gone_are_named(made: RunDir, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no snapshot of faces"):
        read_page(read_generation(made.root, 0), tmp_path, order="leased", index=0)


def test_reading_writes_nothing(made: RunDir) -> None:
    root = made.root.parent.parent
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    read_page(read_generation(made.root, 0), root / "faces", order="spread", index=0)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_names_are_escaped_on_a_card(made: RunDir) -> None:
    generation = read_generation(made.root, 0)
    faces = made.root.parent.parent / "faces"
    page = read_page(generation, faces, order="leased", index=0)
    others = [page] + [read_page(generation, faces, order="leased", index=i) for i in range(1, 9)]
    triplets = [t for page in others for t in page.triplets]
    named = next(t for t in triplets if t.anchor.identity == identity_of(0))
    card = triplet_card(named, 0.2)
    assert "n0 &lt;b&gt;&amp;" in card and "<b>" not in card
    assert card.count("<img ") == 3
    assert f"{named.d2_ap:.3f}" in card and f"{named.d2_an:.3f}" in card


def test_a_generation_that_was_removed_is_not_found(runs: Path, made: RunDir) -> None:
    shutil.copytree(made.root, runs / "made")
    shutil.rmtree(RunDir(runs / "made").generation(1))
    with pytest.raises(FileNotFoundError):
        read_generation(runs / "made", 1)
