from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.detection.detectors import make_detector
from facequarry.datasets.faces.schema import Reason, Rejected, SourceChanged
from facequarry.datasets.faces.snapshots import publish_snapshot
from facequarry.datasets.ingest.plan import plan_ingest
from facequarry.datasets.ingest.shard_maker import ShardMaker
from facequarry.datasets.ingest.shard_tasks import face_options
from facequarry.datasets.sources import archive
from facequarry.datasets.sources.archive import LINKS, REPLACED, SPECIAL, TWICE, UNSAFE, TarSource
from facequarry.datasets.sources.folder import BELOW, NO_IMAGES, OUTSIDE, FolderSource
from facequarry.datasets.sources.photos import Listing, Photo, photos_of
from tests.datasets.photos import (
    WHOLE,
    bytes_of,
    pack,
    publish_plainly,
    write_bad_photos,
    write_tree,
)


def source_of(path: Path) -> TarSource:
    return TarSource.open(path, path.parent / "cache")


def names(listing: Listing) -> list[str]:
    found: list[str] = listing.photos["source"].to_pylist()
    return found


def write_members(path: Path, *members: tarfile.TarInfo) -> TarSource:
    """Write a tar of members, each file's content being its own name."""
    with tarfile.open(path, "w") as tar:
        for member in members:
            content = member.name.encode()
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return source_of(path)


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = "a/0001.jpg"
    return info


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz"])
def test_archive_lists_and_reads_what_the_folder_does(tmp_path: Path, suffix: str) -> None:
    folder = write_tree(tmp_path / "photos", {"b": 3, "a": 2, "c": 4})
    write_bad_photos(folder / "a")
    (folder / "a" / "loop.jpg").unlink()
    (folder / "a" / "._a.jpg").write_bytes(b"what a Mac leaves")
    (folder / "a" / "notes.txt").write_text("no photo")
    source = source_of(pack(folder, tmp_path / f"photos.{suffix}"))
    plain = FolderSource(folder)

    photos = list(photos_of(source.scan().photos))

    assert source.scan().left_out == plain.scan().left_out
    columns = ["identity", "source", "size_bytes"]
    assert source.scan().photos.select(columns) == plain.scan().photos.select(columns)
    for photo in [photo for photo in photos if photo.size_bytes]:
        assert source.read(photo, max_bytes=10**6) == plain.read(photo, max_bytes=10**6)


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_archive_gives_the_same_shards_as_the_folder(tmp_path: Path, suffix: str) -> None:
    folder = write_tree(tmp_path / "photos", {"b": 3, "a": 6})
    write_bad_photos(folder / "a")
    (folder / "a" / "loop.jpg").unlink()
    publish_plainly(folder, tmp_path / "of_folder")
    source = source_of(pack(folder, tmp_path / f"photos.{suffix}"))
    options, root = face_options(WHOLE, make_detector(WHOLE)), tmp_path / "of_archive"

    plan = plan_ingest(root, source.scan().photos, None, options, WHOLE.photos_per_shard)
    maker = ShardMaker(source, root, WHOLE)
    publish_snapshot(root, options.to_json(), [maker.make(task) for task in plan.tasks])

    assert bytes_of(root) == bytes_of(tmp_path / "of_folder")


def test_second_look_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tree(tmp_path / "photos", {"a": 2})
    source = source_of(pack(folder, tmp_path / "photos.tar.gz"))
    shares: list[float] = []
    first = source.scan(shares.append)
    monkeypatch.setattr(archive, "_list_members", None)
    assert source_of(tmp_path / "photos.tar.gz").scan() == first
    assert shares and shares == sorted(shares) and shares[-1] == 1.0


def test_several_gzip_members_are_one_archive(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "photos", {"a": 9})
    raw = pack(folder, tmp_path / "photos.tar").read_bytes()
    parts = [gzip.compress(raw[start : start + 5000]) for start in range(0, len(raw), 5000)]
    (tmp_path / "parts.tar.gz").write_bytes(b"".join(parts))
    source = source_of(tmp_path / "parts.tar.gz")
    for photo in photos_of(source.scan().photos):
        assert source.read(photo, max_bytes=10**6) == (folder / photo.source).read_bytes()


def test_photos_are_read_in_any_order_far_into_gzip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_MIN_SPACING_BYTES", 1 << 16)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for number in range(40):
        content = os.urandom(20_000)
        (tmp_path / "photos" / "a" / f"{number}.jpg").write_bytes(content)
    source = source_of(pack(tmp_path / "photos", tmp_path / "photos.tar.gz"))
    for photo in reversed(list(photos_of(source.scan().photos))):
        assert (
            source.read(photo, max_bytes=10**6) == (tmp_path / "photos" / photo.source).read_bytes()
        )


def cut_in_half(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def cut_in_the_trailer(raw: bytes) -> bytes:
    return raw[:-5]


def flip_a_bit(raw: bytes) -> bytes:
    damaged = bytearray(raw)
    damaged[len(raw) // 2] ^= 1
    return bytes(damaged)


def append_junk(raw: bytes) -> bytes:
    return raw + b"\x1f\x8b junk"


@pytest.mark.parametrize("damage", [cut_in_half, cut_in_the_trailer, flip_a_bit, append_junk])
def test_damaged_gzip_is_refused_and_leaves_nothing(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = pack(write_tree(tmp_path / "photos", {"a": 20}), tmp_path / "photos.tar.gz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"photos.tar.gz is cut off, damaged or no tar archive"):
        source_of(path).scan()
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    write_members(tmp_path / "photos.tar", *(member(f"a/{number}.jpg") for number in range(9)))
    raw = bytearray((tmp_path / "photos.tar").read_bytes())
    raw[5 * 1024 + 100] ^= 1  # in the sixth header
    (tmp_path / "photos.tar").write_bytes(raw)
    with pytest.raises(ValueError, match="no member and no end mark at byte 5120"):
        source_of(tmp_path / "photos.tar").scan()


@pytest.mark.parametrize("kept", [700, 10 * 512, -1024 * 9])
def test_tar_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    path = pack(write_tree(tmp_path / "photos", {"a": 20}), tmp_path / "photos.tar")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"cut off"):
        source_of(path).scan()


def test_gzip_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"no tar" * 1000))
    with pytest.raises(ValueError, match="no tar archive"):
        source_of(tmp_path / "text.gz").scan()


def test_unsafe_members_are_counted_and_never_read(tmp_path: Path) -> None:
    source = write_members(
        tmp_path / "photos.tar",
        member("a/0001.jpg"),
        member("./b/0001.jpg"),
        member("/etc/passwd.jpg"),
        member("../../a/0002.jpg"),
        member("a/../../0003.jpg"),
        member("a/0004.jpg", tarfile.SYMTYPE),
        member("a/0005.jpg", tarfile.LNKTYPE),
        member("a/0006.jpg", tarfile.CHRTYPE),
        member("a/0007.jpg", tarfile.FIFOTYPE),
        member("loose.jpg"),
        member("a/readme.txt"),
    )
    listing = source.scan()
    assert names(listing) == ["a/0001.jpg", "b/0001.jpg"]
    assert listing.left_out == {
        UNSAFE: 3,
        LINKS: 2,
        SPECIAL: 2,
        OUTSIDE: 1,
        NO_IMAGES: 1,
    }


def test_later_member_of_the_same_name_replaces_the_earlier(tmp_path: Path) -> None:
    source = write_members(
        tmp_path / "photos.tar", member("a/1.jpg"), member("a/2.jpg"), member("./a/1.jpg")
    )
    listing = source.scan()
    assert (names(listing), listing.left_out) == (["a/1.jpg", "a/2.jpg"], {REPLACED: 1})
    first = next(photos_of(listing.photos))
    assert source.read(first, max_bytes=100) == b"./a/1.jpg"


def test_identities_lie_at_one_depth(tmp_path: Path) -> None:
    source = write_members(
        tmp_path / "photos.tar",
        *(member(f"vgg/train/a/{number}.jpg") for number in range(3)),
        member("vgg/test/b/0.jpg"),
        member("vgg/test/a/0.jpg"),
        member("vgg/cover/0.jpg"),
        member("vgg/train/a/old/0.jpg"),
        member("vgg/train/b/old/0.jpg"),
    )
    listing = source.scan()
    assert names(listing) == ["a/0.jpg", "a/1.jpg", "a/2.jpg", "b/0.jpg"]
    assert listing.left_out == {OUTSIDE: 1, BELOW: 2, TWICE: 1}


def test_names_that_are_not_utf8_are_those_of_the_folder(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/photos/Jos\xe9 100%"
    os.makedirs(raw)
    Path(os.fsdecode(raw + b"/\xff.jpg")).write_bytes(b"photo")
    source = source_of(pack(tmp_path / "photos", tmp_path / "photos.tar.gz"))
    assert names(source.scan()) == names(FolderSource(tmp_path / "photos").scan())


def test_archive_without_photos_is_an_empty_listing(tmp_path: Path) -> None:
    listing = write_members(tmp_path / "photos.tar", member("a/readme.txt")).scan()
    assert (len(listing), listing.found) == (0, "an archive without images")


def test_empty_and_large_members_are_rejected(tmp_path: Path) -> None:
    source = write_members(tmp_path / "photos.tar", member("a/1.jpg"))
    for size, reason in ((0, Reason.EMPTY_FILE), (101, Reason.TOO_LARGE)):
        with pytest.raises(Rejected) as caught:
            source.read(Photo("a", "a/1.jpg", size), max_bytes=100)
        assert caught.value.reason is reason


@pytest.mark.parametrize("suffix", ["gzidx", "parquet"])
def test_damaged_cache_is_made_again(tmp_path: Path, suffix: str) -> None:
    folder = write_tree(tmp_path / "photos", {"a": 3})
    source = source_of(pack(folder, tmp_path / "photos.tar.gz"))
    first = source.scan()
    (path,) = (tmp_path / "cache").glob(f"*.{suffix}")
    path.write_bytes(path.read_bytes()[:20])
    archive._reader.cache_clear()
    assert source.scan() == first
    for photo in photos_of(first.photos):
        assert source.read(photo, max_bytes=10**6) == (folder / photo.source).read_bytes()


def test_archives_of_the_same_name_size_and_time_are_told_apart(tmp_path: Path) -> None:
    found = []
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        path = write_members(tmp_path / name / "photos.tar", member(f"a/{name}.jpg")).path
        os.utime(path, ns=(5, 5))
        found.append(names(TarSource.open(path, tmp_path / "cache").scan()))
    assert found == [["a/1.jpg"], ["a/2.jpg"]]


def test_shard_of_an_archive_that_changed_meanwhile_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(write_tree(tmp_path / "photos", {"a": 3}), tmp_path / "photos.tar")
    source, root = source_of(path), tmp_path / "faces"
    options = face_options(WHOLE, make_detector(WHOLE))
    (task,) = plan_ingest(root, source.scan().photos, None, options, 4).tasks
    maker = ShardMaker(source, root, WHOLE)
    face_of = maker._face_of

    def overwrite(photo: Photo, raw: bytes) -> dict[str, object]:
        path.write_bytes(bytes(path.stat().st_size))
        return face_of(photo, raw)

    monkeypatch.setattr(maker, "_face_of", overwrite)
    with pytest.raises(SourceChanged, match="changed while it was read"):
        maker.make(task)
    assert not (root / "shards").exists()


def test_more_after_the_end_mark_is_refused(tmp_path: Path) -> None:
    parts = [write_members(tmp_path / f"{n}.tar", member(f"a/{n}.jpg")).path for n in "12"]
    (tmp_path / "both.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(ValueError, match="more follows the end mark"):
        source_of(tmp_path / "both.tar").scan()


def test_hidden_folders_are_passed_over_as_in_a_tree(tmp_path: Path) -> None:
    source = write_members(tmp_path / "p.tar", member("./a/1.jpg"), member(".trash/1.jpg"))
    assert (names(source.scan()), source.scan().left_out) == (["a/1.jpg"], {})


def test_archive_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    path = pack(write_tree(tmp_path / "photos", {"a": 1}), tmp_path / "photos.tar")
    source = source_of(path)
    (photo,) = photos_of(source.scan().photos)
    os.utime(path, ns=(1, 1))
    with pytest.raises(SourceChanged, match="changed while it was read"):
        source.read(photo, max_bytes=10**6)


@pytest.mark.real_data
def test_vggface2_sample_is_the_same_from_folder_and_archive(
    real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "vggface2_sample"
    source = source_of(pack(folder, tmp_path / "vggface2_sample.tar.gz", prefix="sample/train"))
    config = IngestConfig(detector="none", photos_per_shard=16)
    publish_plainly(folder, tmp_path / "of_folder", config)
    options, root = face_options(config, make_detector(config)), tmp_path / "of_archive"
    plan = plan_ingest(root, source.scan().photos, None, options, config.photos_per_shard)
    maker = ShardMaker(source, root, config)
    publish_snapshot(root, options.to_json(), [maker.make(task) for task in plan.tasks])
    assert bytes_of(root) == bytes_of(tmp_path / "of_folder")
