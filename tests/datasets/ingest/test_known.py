from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.faces.schema import CorruptShard
from facequarry.datasets.faces.snapshots import read_snapshot
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.ingest.known import Known, News, Watched, find_news
from facequarry.datasets.ingest.plan import plan_ingest
from facequarry.datasets.ingest.shard_tasks import face_options, task_digest
from facequarry.datasets.sources.photos import LISTING_SCHEMA, Photo
from facequarry.datasets.synthetic.large_listing import vggface2_layout
from tests.datasets.photos import WHOLE, bytes_of, publish_plainly, write_photo, write_tree

SOURCES = [f"a/{number}.jpg" for number in range(5)]

# Of each photo: absent, or its size; and what the root knows of it.
listings = st.dictionaries(st.sampled_from(SOURCES), st.integers(1, 2), min_size=1)
answers = st.dictionaries(
    st.sampled_from(SOURCES),
    st.tuples(st.sampled_from(["face", "no_face", "corrupt"]), st.integers(1, 2)),
)


def listing_of(sizes: dict[str, int]) -> pa.Table:
    rows = [
        {"identity": "a", "source": source, "size_bytes": size, "offset_bytes": 0}
        | {"modified_ns": 0, "box": None}
        for source, size in sorted(sizes.items())
    ]
    return pa.Table.from_pylist(rows, LISTING_SCHEMA)


def known_of(answers: dict[str, tuple[str, int]]) -> Known:
    nothing = Known.nothing()
    faces = [
        {"source": source, "source_bytes": size}
        for source, (answer, size) in answers.items()
        if answer == "face"
    ]
    rejects = [
        {"source": source, "source_bytes": size, "source_sha256": "old", "reason": answer}
        for source, (answer, size) in answers.items()
        if answer != "face"
    ]
    return Known(
        pa.Table.from_pylist(faces, nothing.faces.schema),
        pa.Table.from_pylist(rejects, nothing.rejects.schema),
    )


@given(
    sizes=listings,
    answers=answers,
    damaged=st.sets(st.sampled_from(SOURCES)),
    moving=st.sets(st.sampled_from(SOURCES)),
)
def test_news_are_those_of_a_slow_comparison(
    sizes: dict[str, int],
    answers: dict[str, tuple[str, int]],
    damaged: set[str],
    moving: set[str],
) -> None:
    photos = listing_of(sizes)
    settled = np.array([source not in moving for source in photos["source"].to_pylist()])
    news = find_news(
        photos,
        known_of(answers),
        3,
        lambda photo: "new" if photo.source in damaged else "old",
        watched=Watched(settled=settled, fresh=settled),
    )
    expected: dict[str, int | None] = {}
    retried: dict[str, int] = {}
    changed = 0
    for source, size in sorted(sizes.items()):
        if source in moving:
            continue
        answer, old_size = answers.get(source, ("", 0))
        if not answer:
            expected[source] = None
        elif answer == "face":
            changed += size != old_size
        elif size != old_size or source in damaged:
            expected[source] = 3
            retried[answer] = retried.get(answer, 0) + 1
    found = dict(
        zip(
            news.photos["source"].to_pylist(), news.photos["retried_after"].to_pylist(), strict=True
        )
    )
    assert found == expected
    assert news.retried == dict(sorted(retried.items()))
    assert news.changed == changed
    assert news.gone == sum(
        answer == "face" and source not in sizes for source, (answer, _) in answers.items()
    )


def test_only_what_is_fresh_is_read_again_and_gone_is_what_the_whole_source_lacks() -> None:
    photos = listing_of({"a/0.jpg": 1, "a/1.jpg": 1})
    known = known_of({"a/1.jpg": ("no_face", 1), "a/2.jpg": ("face", 1), "a/3.jpg": ("face", 1)})
    settled, everything = np.array([True, True]), listing_of({"a/0.jpg": 1, "a/2.jpg": 1})
    read: list[str] = []

    def digest(photo: Photo) -> str:
        read.append(photo.source)
        return "new"

    for fresh in (False, True):
        watched = Watched(settled=settled, fresh=np.array([True, fresh]))
        news = find_news(photos, known, 1, digest, everything=everything, watched=watched)
        assert news.photos["source"].to_pylist() == ["a/0.jpg", "a/1.jpg"][: 1 + fresh]
        assert news.gone == 1
    assert read == ["a/1.jpg"]


def test_published_shard_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    publish_plainly(write_tree(tmp_path / "photos", {"a": 3}), tmp_path / "faces")
    (shard,) = read_snapshot(tmp_path / "faces").shards
    path = tmp_path / "faces" / "shards" / f"{shard.summary.shard}.parquet"
    for damage in (lambda: path.write_bytes(path.read_bytes()[:50]), path.unlink):
        damage()
        with pytest.raises(CorruptShard, match="restore it, or ingest into a new folder"):
            Known.nothing().plus(tmp_path / "faces", [shard.summary])


def test_rejects_are_tried_again_when_their_bytes_change(tmp_path: Path) -> None:
    source, root = write_tree(tmp_path / "photos", {"a": 3}), tmp_path / "faces"
    (source / "a" / "0004_01.jpg").write_bytes(b"")
    (source / "a" / "0005_01.jpg").write_bytes(b"no photo")
    publish_plainly(source, root)
    before = bytes_of(root)
    assert read_snapshot(root).rejects == {"empty_file": 1, "not_an_image": 1}

    write_photo(source / "a" / "0004_01.jpg", 4)
    (source / "a" / "0005_01.jpg").write_bytes(b"noXphoto")  # the same size
    publish_plainly(source, root)

    snapshot = read_snapshot(root)
    assert (snapshot.number, snapshot.num_faces, snapshot.num_photos) == (2, 4, 5)
    assert snapshot.rejects == {"not_an_image": 1}
    assert snapshot.retried == {"empty_file": 1, "not_an_image": 1}
    after = bytes_of(root)
    assert {name: after[name] for name in before} == before
    assert FaceStore.open(root, tmp_path / "cache").sources([3]) == ["a/0004_01.jpg"]

    publish_plainly(source, root)  # nothing changed: nothing is tried again
    assert read_snapshot(root).num_photos == 5


def test_known_photos_are_those_of_all_shards_with_their_last_answer(tmp_path: Path) -> None:
    source, root = write_tree(tmp_path / "photos", {"a": 5}), tmp_path / "faces"
    for content in (b"", b"one", b"other"):
        (source / "a" / "bad.jpg").write_bytes(content)
        publish_plainly(source, root)
    known = Known.nothing().plus(root, [shard.summary for shard in read_snapshot(root).shards])
    assert known.faces["source"].to_pylist() == [f"a/000{number}_01.jpg" for number in range(1, 6)]
    digest = hashlib.sha256(b"other").hexdigest()
    assert known.rejects.to_pylist() == [
        {"source": "a/bad.jpg", "source_bytes": 5, "source_sha256": digest}
        | {"reason": "not_an_image"}
    ]
    first = known.faces["source_bytes"].to_pylist()[0]
    assert first == (source / "a" / "0001_01.jpg").stat().st_size


def test_a_million_photos_are_planned_without_their_pixels(tmp_path: Path) -> None:
    listing = vggface2_layout(1_000_000)
    options = face_options(WHOLE, make_detector(WHOLE))

    def never(photo: Photo) -> None:
        raise AssertionError(photo)

    news: News = find_news(listing, Known.nothing(), 0, never)
    plan = plan_ingest(tmp_path, news.photos, None, options, 512)

    assert len(plan.tasks) == 1954
    assert sum(task.num_photos for task in plan.tasks) == 1_000_000
    assert len({task.shard for task in plan.tasks}) == 1954
    assert plan.tasks[7].digest == task_digest(news.photos.slice(7 * 512, 512), options)
    known = Known(
        pa.table([listing["source"], listing["size_bytes"]], names=["source", "source_bytes"]),
        Known.nothing().rejects,
    )
    again = find_news(listing, known, 1, never)
    assert (again.photos.num_rows, again.changed, again.gone) == (0, 0, 0)
