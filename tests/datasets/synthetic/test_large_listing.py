from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.datasets.sources.folder import FolderSource
from facequarry.datasets.sources.photos import LISTING_SCHEMA
from facequarry.datasets.synthetic.large_listing import vggface2_layout, write_layout


def test_the_whole_set_has_vggface2s_size_and_shape() -> None:
    table = vggface2_layout(3_141_890)
    assert table.num_rows == 3_141_890
    assert table.schema.equals(LISTING_SCHEMA)
    identities = pc.value_counts(table["identity"])
    values, counts = identities.field("values").to_pylist(), identities.field("counts").to_numpy()
    assert len(values) == 8_631 and values[0] == "n000002" and values[-1] <= "n009294"
    assert counts.min() == 80 and 700 < counts.max() <= 843 and abs(counts.mean() - 364) < 0.1
    sizes = table["size_bytes"].to_numpy()
    assert abs(sizes.mean() / 12_000 - 1) < 0.05 and 4_000 < sizes.std() < 9_000
    assert sizes.min() >= 1_000


@given(num_photos=st.integers(1, 5_000), seed=st.integers(0, 9))
def test_every_layout_is_whole_sorted_and_without_repeats(num_photos: int, seed: int) -> None:
    table = vggface2_layout(num_photos, seed=seed)
    rows = list(zip(table["identity"].to_pylist(), table["source"].to_pylist(), strict=True))
    assert len(rows) == num_photos and rows == sorted(set(rows))
    assert all(source.startswith(f"{identity}/") for identity, source in rows)
    counts = Counter(identity for identity, _ in rows)
    assert len(counts) == 1 or 80 <= min(counts.values()) <= max(counts.values()) <= 843


def test_the_same_seed_gives_the_same_layout_and_another_seed_another() -> None:
    assert vggface2_layout(5_000, seed=3).equals(vggface2_layout(5_000, seed=3))
    assert not vggface2_layout(5_000, seed=3).equals(vggface2_layout(5_000, seed=4))


@pytest.mark.parametrize("num_photos", [0, -1, 100_000_001])
def test_a_size_out_of_range_is_refused(tmp_path: Path, num_photos: int) -> None:
    with pytest.raises(ValueError, match="^num_photos is .*, expected 1..100000000$"):
        write_layout(tmp_path / "photos", num_photos)
    assert not list(tmp_path.iterdir())


def test_files_have_the_tables_names_and_sizes_and_take_no_blocks(tmp_path: Path) -> None:
    assert write_layout(tmp_path / "photos", 300, seed=2) == 300
    listing = FolderSource(tmp_path / "photos").scan()
    assert listing.left_out == {}
    names = ["identity", "source", "size_bytes"]
    assert listing.photos.select(names) == vggface2_layout(300, seed=2).select(names)
    sources = listing.photos["source"].to_pylist()
    blocks = [(tmp_path / "photos" / source).stat().st_blocks for source in sources]
    assert sum(blocks) == 0


def test_a_layout_is_not_written_over_something(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="is not an empty folder"):
        write_layout(tmp_path, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
