from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.datasets.config import FollowConfig
from facequarry.datasets.faces.snapshots import snapshot_numbers
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.ingest.follow import Settling, follow
from facequarry.datasets.ingest.ingest import Ingest
from facequarry.datasets.sources.photos import LISTING_SCHEMA
from tests.datasets.photos import WHOLE, write_photo, write_tree

FOLLOW = FollowConfig(settle_s=10.0, every_s=5.0)


class Stop(Exception):
    """Ends a follow."""


class Time:
    """A clock that goes on by sleeping; at each sleep the next thing happens to the photos."""

    def __init__(self, *happenings: Callable[[], object] | None) -> None:
        self.now = 0.0
        self._happenings = list(happenings)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if not self._happenings:
            raise Stop
        happening = self._happenings.pop(0)
        if happening is not None:
            happening()


@given(
    looks=st.lists(
        st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 2), st.integers(1, 2))),
        max_size=8,
    ),
    settle=st.integers(1, 3),
)
def test_photos_settle_as_in_a_slow_count(
    looks: list[dict[str, tuple[int, int]]], settle: int
) -> None:
    settling = Settling(float(settle))
    since: dict[str, tuple[tuple[int, int], int]] = {}
    told: set[tuple[str, tuple[tuple[int, int], int]]] = set()
    for now, photos in enumerate(looks):
        names = sorted(photos)
        rows = [
            {"identity": "a", "source": name, "size_bytes": photos[name][0], "offset_bytes": 0}
            | {"modified_ns": photos[name][1], "box": None}
            for name in names
        ]
        found = settling.look(pa.Table.from_pylist(rows, LISTING_SCHEMA), float(now))
        since = {
            name: since[name]
            if name in since and since[name][0] == photos[name]
            else (photos[name], now)
            for name in names
        }
        still = [now - since[name][1] >= settle for name in names]
        assert found.settled.tolist() == still
        for name, is_still, is_fresh in zip(names, still, found.fresh.tolist(), strict=True):
            assert is_fresh == (is_still and (name, since[name]) not in told)
            told |= {(name, since[name])} if is_still else set()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_photos_are_taken_once_they_stand_still(tmp_path: Path) -> None:
    source, root = tmp_path / "photos", tmp_path / "faces"
    source.mkdir()
    growing = source / "a" / "0002_01.jpg"

    def copy_slowly() -> None:
        write_tree(source, {"a": 1})
        write_photo(source / "whole" / "1.jpg", 7)
        growing.write_bytes((source / "whole" / "1.jpg").read_bytes()[:200])
        (source / "a" / "bad.jpg").write_bytes(b"")

    def finish_copying() -> None:
        growing.write_bytes((source / "whole" / "1.jpg").read_bytes())

    def mend_and_break() -> None:
        write_photo(source / "a" / "bad.jpg", 9)
        (source / "a" / "0001_01.jpg").write_bytes(b"changed")
        (source / "whole" / "1.jpg").unlink()

    time = Time(None, copy_slowly, None, finish_copying, None, None, mend_and_break, None, None)
    reports = []
    with pytest.raises(Stop), Ingest(source, root, replace(WHOLE, crop_px=16)) as work:
        for report in follow(work, FOLLOW, clock=time.clock, sleep=time.sleep):
            reports.append((time.now, report))

    first, second, third = (report for _, report in reports)
    # Copied at 10, unchanged at 20; the growing one unchanged from 20 to 30; mended at 35.
    assert [now for now, _ in reports] == [20.0, 30.0, 45.0]
    assert (first.faces, first.rejects) == (2, {"empty_file": 1})
    assert (second.faces, second.new_photos) == (3, 1)
    assert (third.faces, third.rejects, third.new_photos) == (4, {}, 1)
    assert third.notes == {
        "rejected photos whose file changed, tried again": 1,
        "photos whose file changed since, their faces stay": 1,
        "photos with a face that this source lacks, their faces stay": 1,
    }
    store = FaceStore.open(root, tmp_path / "cache")
    assert store.sources(range(4)) == [
        "a/0001_01.jpg",
        "whole/1.jpg",
        "a/0002_01.jpg",
        "a/bad.jpg",
    ]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_photos_without_a_face_wait_for_the_first_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, root = tmp_path / "photos", tmp_path / "faces"
    (source / "a").mkdir(parents=True)
    (source / "a" / "bad.jpg").write_bytes(b"")
    time = Time(None, None, None, lambda: write_tree(source, {"b": 1}), None, None)
    with pytest.raises(Stop), Ingest(source, root, WHOLE) as work:
        for report in follow(work, FOLLOW, clock=time.clock, sleep=time.sleep):
            assert (report.faces, report.rejects) == (1, {"empty_file": 1})
    assert [record.message[:40] for record in caplog.records] == [
        "none of 1 photos gave a face (empty_file"
    ]
    assert snapshot_numbers(root) == [1]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_only_photo_is_taken_when_it_is_mended(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    (source / "a").mkdir(parents=True)
    (source / "a" / "1.jpg").write_bytes(b"")
    time = Time(None, None, None, lambda: write_photo(source / "a" / "1.jpg", 3), None, None)
    reports = []
    with pytest.raises(Stop), Ingest(source, tmp_path / "faces", WHOLE) as work:
        for report in follow(work, FOLLOW, clock=time.clock, sleep=time.sleep):
            reports.append((report.faces, report.rejects))
    assert reports == [(1, {})]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_box_csv_and_lists_may_match_nothing_yet(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "photos", {"a": 1})
    (tmp_path / "keep.txt").write_text("b\n")
    (tmp_path / "boxes.csv").write_text('NAME_ID,X,Y,W,H\n"b/0001_01",1,1,30,30\n')
    config = replace(WHOLE, keep=tmp_path / "keep.txt", boxes=tmp_path / "boxes.csv")
    time = Time(None, lambda: write_tree(source, {"b": 2}), None, None, None)
    with pytest.raises(Stop), Ingest(source, tmp_path / "faces", config) as work:
        for report in follow(work, FOLLOW, clock=time.clock, sleep=time.sleep):
            assert (
                report.faces,
                report.left_out["of an identity that is not in the keep list"],
            ) == (2, 1)
            assert report.notes == {"photos without a row in the box csv": 1}


def test_ranges_of_following_are_checked() -> None:
    with pytest.raises(ValueError, match=r"settle_s is 0, expected 0..86400 seconds"):
        FollowConfig(settle_s=0)
    with pytest.raises(ValueError, match="every_s is nan"):
        FollowConfig(every_s=float("nan"))
