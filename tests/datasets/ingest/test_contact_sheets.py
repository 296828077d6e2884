from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from facequarry.datasets.faces.snapshots import read_snapshot
from facequarry.datasets.ingest.contact_sheets import (
    contact_sheet,
    write_faces_page,
    write_rejects_page,
)
from facequarry.datasets.ingest.known import Known
from facequarry.datasets.sources.folder import FolderSource
from tests.datasets.photos import draw, listed, publish_plainly, write_bad_photos, write_tree


def test_contact_sheet_shows_every_tile() -> None:
    sheet = contact_sheet([(draw(1), "José"), (None, "empty_file"), (draw(2, 9, 300), "c")], 2)
    assert sheet.shape == (2 * 126, 2 * 112, 3)
    assert len(np.unique(sheet[:112, :112].reshape(-1, 3), axis=0)) > 100
    assert (sheet[:112, 112:] == 200).all()
    assert (sheet[126:, 112:] == 255).all()


def test_pages_of_faces_and_rejects_are_pngs(tmp_path: Path) -> None:
    source, root = write_tree(tmp_path / "photos", {"a": 5, "b": 3}), tmp_path / "faces"
    write_bad_photos(source / "a")
    publish_plainly(source, root)
    snapshot = read_snapshot(root)
    rejects = Known.nothing().plus(root, [shard.summary for shard in snapshot.shards]).rejects
    for _ in range(2):  # drawn again, they replace the old ones
        write_faces_page(root, snapshot, root / "faces.png")
        write_rejects_page(FolderSource(source), listed(source), rejects, root / "rejects.png")
    for name in ("faces.png", "rejects.png"):
        page = cv2.imread(str(root / name))
        assert page is not None
        assert page.shape[1] == 12 * 112
