"""Pictures are whole PNG files of the promised size, and empty data is refused in a sentence."""

from __future__ import annotations

import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure

import facequarry.trainer.evaluation.plots
from facequarry.jobs.pictures.triplet_page import TripletPicture, triplet_page
from facequarry.trainer.evaluation.figure import DPI
from facequarry.trainer.evaluation.plots import (
    SplitD2,
    confusion_matrix,
    d2_histograms,
    d2_histograms_before_after,
    loss_curve,
    roc,
    shares,
    staleness,
)

RNG = np.random.default_rng(0)
PAIRS = SplitD2(same=RNG.uniform(0, 2, 100), different=RNG.uniform(1, 4, 300), threshold=1.4)
CURVE = (np.array([0.0, 0.0, 0.01, 1.0]), np.array([0.0, 0.2, 0.8, 1.0]))
CROP: npt.NDArray[np.uint8] = RNG.integers(0, 256, size=(40, 32, 3), dtype=np.uint8)


def picture(d2_an: float = 0.6, name: str = "n000001") -> TripletPicture:
    return TripletPicture(
        crops=(CROP, CROP, CROP), names=(name,) * 3, d2_ap=0.5, d2_an=d2_an, kind="semi_hard"
    )


DRAWINGS: dict[str, tuple[Callable[[Path], None], tuple[float, float]]] = {
    "roc": (lambda path: roc({"before": CURVE, "after": CURVE}, path), (6.4, 4.6)),
    "d2_histograms": (lambda path: d2_histograms(PAIRS, path, title="Held out"), (6.4, 3.6)),
    "before_after": (lambda path: d2_histograms_before_after(PAIRS, PAIRS, path), (6.4, 5.4)),
    "confusion": (lambda path: confusion_matrix([[9, 1], [0, 5]], path, title="t"), (6.4, 3.8)),
    "loss_curve": (lambda path: loss_curve([0, 1, 2], [0.3, None, 0.2], [1], path), (6.4, 3.8)),
    "shares": (
        lambda path: shares([0, 1, 2], {"a": [1, 0, 0.5], "b": [0, 0, 0.5]}, [3, 0, 1], [1], path),
        (6.4, 3.8),
    ),
    "staleness": (lambda path: staleness([0, 1, 2], [None, 1, 2], 3, path), (6.4, 3.4)),
    "one_triplet": (lambda path: triplet_page([picture()], 0.2, path), (5.4, 3.1)),
    "page": (lambda path: triplet_page([picture()] * 5, 0.2, path), (10.8, 8.3)),
}


def png_size(path: Path) -> tuple[int, int]:
    raw = path.read_bytes()
    assert raw.startswith(b"\x89PNG\r\n\x1a\n") and raw.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", raw[16:24])
    return width, height


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_a_png_of_its_size_and_may_be_drawn_again(name: str, tmp_path: Path) -> None:
    draw, inches = DRAWINGS[name]
    path = tmp_path / "pictures" / f"{name}.png"
    for _ in range(2):
        draw(path)
        assert png_size(path) == pytest.approx([side * DPI for side in inches], abs=1)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_threads_draw_side_by_side_and_alike(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(DRAWINGS["roc"][0], paths))
    assert len({path.read_bytes() for path in paths}) == 1


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda path: roc({}, path), "0 ROC curves, expected 1 to 5"),
        (lambda path: roc({"after": ([], [])}, path), "ROC curve 'after' has shapes"),
        (
            lambda path: d2_histograms(SplitD2(same=[], different=[1.0]), path),
            "no same-identity pairs",
        ),
        (
            lambda path: d2_histograms_before_after(PAIRS, SplitD2(same=[1], different=[]), path),
            "no different-identity pairs",
        ),
        (lambda path: confusion_matrix([[0, 0], [1, 2]], path, title="t"), "both kinds"),
        (lambda path: confusion_matrix([[1, 2]], path, title="t"), "expected 2 x 2"),
        (lambda path: loss_curve([], [], [], path), "the loss curve has shapes"),
        (lambda path: loss_curve([0], [float("nan")], [], path), "no finite loss"),
        (lambda path: shares([0], {"a": [0.0]}, [0], [], path), "no step had a triplet"),
        (lambda path: staleness([0, 1], [1], 2, path), "the staleness curve has shapes"),
        (lambda path: staleness([0], [None], 2, path), "no mined triplet was consumed"),
        (lambda path: triplet_page([], 0.2, path), "at least one triplet"),
    ],
)
def test_empty_data_is_refused_and_leaves_nothing(
    draw: Callable[[Path], None], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=sentence):
        draw(tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == []


def test_shares_in_words_weigh_a_step_by_its_triplets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[str] = []

    def publish(figure: Figure, _path: Path) -> None:
        labels.extend(figure.axes[0].get_legend_handles_labels()[1])

    monkeypatch.setattr(facequarry.trainer.evaluation.plots, "publish_figure", publish)
    kinds = {"still": [1.0, 0.0, 0.0], "hard": [0.0, 0.0, 1.0]}
    shares([0, 1, 2], kinds, [9, 0, 1], [], tmp_path / "shares.png")
    assert labels == ["still (90 %)", "hard (10 %)"]


def test_a_crop_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    grey = TripletPicture(
        crops=(CROP, CROP, CROP[:, :, 0]), names=("a", "a", "b"), d2_ap=1, d2_an=1, kind="hard"
    )
    with pytest.raises(ValueError, match="a crop is uint8 of shape \\(40, 32\\)"):
        triplet_page([grey], 0.2, tmp_path / "page.png")


@pytest.mark.parametrize("name", ["$x_1$", "李四", "tab\tnew\nline", "", "n" * 300])
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    triplet_page([picture(name=name)], 0.2, tmp_path / "page.png")


@pytest.mark.parametrize("d2_an", [0.0, 0.5, 0.7, 4.0])
def test_a_negative_is_drawn_wherever_it_lies(d2_an: float, tmp_path: Path) -> None:
    triplet_page([picture(d2_an=d2_an)], 0.2, tmp_path / "page.png")


def test_extreme_curves_are_drawn(tmp_path: Path) -> None:
    corner = ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    roc({"perfect": corner, "chance": ([0.0, 1.0], [0.0, 1.0])}, tmp_path / "roc.png")
    staleness([5], [0], 0, tmp_path / "staleness.png")
    loss_curve([5], [0.0], [], tmp_path / "loss.png")
    d2_histograms(SplitD2(same=[0.0], different=[4.001]), tmp_path / "d2.png")


def test_a_picture_says_what_it_shows_and_begins_where_pairs_suffice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(
        facequarry.trainer.evaluation.plots,
        "publish_figure",
        lambda figure, _: drawn.append(figure),
    )
    shares(range(400), {"a": [1.0] * 400}, [1] * 400, [], tmp_path / "shares.png")
    roc({"after": CURVE}, tmp_path / "roc.png", least_far=0.02)
    consumed, curve = (figure.axes[0] for figure in drawn)
    assert "as the trainer's own forward pass sees them" in consumed.get_title(loc="left")
    assert consumed.get_ylabel() == "share, mean of the last 10 steps"
    assert curve.get_xlim() == (0.02, 1)
