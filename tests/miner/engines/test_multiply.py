from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import facequarry.miner.engines.multiply
from facequarry.miner.core.distance import product_share
from facequarry.miner.engines.multiply import (
    MOST_DIMENSIONS,
    Multiply,
    blas_products,
    float32_products,
    int8_is_exact,
    int8_pays,
    onednn_is_exact,
    onednn_pays,
    onednn_products,
    whole_products,
)


def operands(rows: int, columns: int, dimension: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(rows, dimension, generator=random), torch.randn(
        columns, dimension, generator=random
    )


@pytest.fixture
def onednn() -> None:
    if not onednn_is_exact(128):
        pytest.skip("this torch multiplies nothing through oneDNN, or rounds its inputs")


@pytest.mark.usefixtures("onednn")
@pytest.mark.parametrize("multiply", [blas_products, onednn_products])
@pytest.mark.parametrize("shape", [(5, 33), (1, 1), (1, 1024), (256, 1)])
@pytest.mark.parametrize("dimension", [1, 2, 17, 128, 512])
def test_float32_products_keep_within_the_bound(
    multiply: Multiply, shape: tuple[int, int], dimension: int
) -> None:
    left, right = operands(*shape, dimension)
    found = multiply(left, right, torch.empty(shape[0] * shape[1] + 7))
    assert found.shape == shape and found.dtype == np.float32 and found.flags.c_contiguous
    norms = left.double().norm(dim=1)[:, None] * right.double().norm(dim=1)
    error = np.abs(found - (left.double() @ right.double().T).numpy())
    assert (error <= 2 * product_share(dimension) * norms.numpy()).all()


def to_bits(kept: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what rounds float32 numbers to so many stored bits."""

    def rounded(x: torch.Tensor) -> torch.Tensor:
        fraction, exponent = torch.frexp(x)
        return torch.ldexp(torch.round(fraction * 2 ** (kept + 1)) / 2 ** (kept + 1), exponent)

    return rounded


@pytest.mark.parametrize("dimension", [2, 128, 768, 4096])
@pytest.mark.parametrize("kept", [7, 10, 16, 22])
@pytest.mark.parametrize("sides", ["left", "right", "both"])
def test_rounding_of_either_operand_is_seen_in_any_dimension(
    monkeypatch: pytest.MonkeyPatch, dimension: int, kept: int, sides: str
) -> None:
    rounded = to_bits(kept)

    def rounding(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        left = left if sides == "right" else rounded(left)
        right = right if sides == "left" else rounded(right)
        return left @ right.T

    monkeypatch.setattr(facequarry.miner.engines.multiply, "_by_onednn", rounding)
    assert not onednn_is_exact.__wrapped__(dimension)


@pytest.mark.parametrize("dimension", [1, 2, 128, 768, 4096])
def test_a_product_that_rounds_nothing_is_exact(
    monkeypatch: pytest.MonkeyPatch, dimension: int
) -> None:
    monkeypatch.setattr(
        facequarry.miner.engines.multiply, "_by_onednn", lambda left, right: left @ right.T
    )
    assert onednn_is_exact.__wrapped__(dimension)
    monkeypatch.setattr(
        facequarry.miner.engines.multiply, "_by_onednn", lambda left, right: left @ right.T * np.nan
    )
    assert not onednn_is_exact.__wrapped__(dimension)


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, NotImplementedError])
def test_a_torch_without_onednn_does_without(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def absent(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(facequarry.miner.engines.multiply, "_by_onednn", absent)
    assert not onednn_is_exact.__wrapped__(128)


@pytest.mark.parametrize(
    ("new", "old", "onednn", "int8"),
    [
        (1.0, 2.0, True, True),
        (1.0, 1.2, True, False),
        (1.0, 1.05, False, False),
        (2.0, 1.0, False, False),
    ],
)
def test_what_pays_is_faster_by_enough(
    monkeypatch: pytest.MonkeyPatch, new: float, old: float, onednn: bool, int8: bool
) -> None:
    monkeypatch.setattr(
        facequarry.miner.engines.multiply, "onednn_is_exact", lambda dimension: True
    )
    monkeypatch.setattr(facequarry.miner.engines.multiply, "int8_is_exact", lambda dimension: True)
    took = {"onednn_products": new, "int8_products": new, "blas_products": old}
    called: list[str] = []
    for name in took:
        monkeypatch.setattr(
            facequarry.miner.engines.multiply, name, lambda *_, name=name: called.append(name)
        )
    monkeypatch.setattr(
        facequarry.miner.engines.multiply,
        "float32_products",
        lambda _: facequarry.miner.engines.multiply.blas_products,
    )

    def seconds(work: Callable[[], object]) -> float:
        work()
        return took[called[-1]]

    monkeypatch.setattr(facequarry.miner.engines.multiply, "_seconds", seconds)
    assert onednn_pays.__wrapped__(128) == onednn
    assert int8_pays.__wrapped__(128) == int8
    assert sorted(set(called)) == sorted(took)


def test_onednn_is_left_alone_where_torch_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facequarry.miner.engines.multiply, "onednn_pays", lambda dimension: True)
    assert float32_products(128) is onednn_products
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "enabled", False)
        assert float32_products(128) is blas_products
    for precision in ("high", "medium"):
        monkeypatch.setattr(facequarry.miner.engines.multiply, "float32_precision", [precision].pop)
        assert float32_products(128) is blas_products


def test_integer_products_that_are_cut_off_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch._int_mm

    def saturating(left: torch.Tensor, right: torch.Tensor, **room: Any) -> torch.Tensor:
        return real(left, right, **room).clamp_(max=2**15 - 1)

    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not int8_is_exact.__wrapped__(128)


def test_dimensions_whose_sums_might_leave_32_bits_are_refused() -> None:
    most = MOST_DIMENSIONS
    assert most * 127**2 < 2**30
    assert not int8_is_exact(most + 1)
    assert not int8_is_exact(1)  # torch itself is wrong there


def test_whole_products_are_exact_without_fast_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    left, right = (
        torch.from_numpy(random.integers(-127, 128, (n, 96)).astype(np.int8)) for n in (5, 33)
    )
    expected = (left.long() @ right.long().T).numpy()
    for is_exact in (int8_is_exact, lambda dimension: False):
        monkeypatch.setattr(facequarry.miner.engines.multiply, "int8_is_exact", is_exact)
        room = torch.empty(5 * 33, dtype=torch.int32)
        np.testing.assert_array_equal(whole_products(left, right, room), expected)


@st.composite
def codes(draw: st.DrawFn) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Draw 8-bit codes of two sides: any, or the largest ones, whose sums are the largest."""
    dimension = draw(st.integers(1, 300))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sides = []
    for count in (draw(st.integers(1, 40)), draw(st.integers(1, 40))):
        match draw(st.sampled_from(["any", "largest", "smallest", "extremes"])):
            case "any":
                side = random.integers(-127, 128, (count, dimension))
            case "largest":
                side = np.full((count, dimension), 127)
            case "smallest":
                side = np.full((count, dimension), -127)
            case _:
                side = random.choice([-127, 0, 127], (count, dimension))
        sides.append(side.astype(np.int8))
    return sides[0], sides[1]


@settings(deadline=None, max_examples=300)
@given(codes())
def test_products_of_any_codes_are_the_sums_of_whole_numbers(
    sides: tuple[NDArray[np.int8], NDArray[np.int8]],
) -> None:
    left, right = sides
    expected = left.astype(np.int64) @ right.astype(np.int64).T
    room = torch.empty(len(left) * len(right) + 7, dtype=torch.int32)
    found = whole_products(torch.from_numpy(left), torch.from_numpy(right), room)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_of_the_most_dimensions_is_exact(sign: int) -> None:
    most = MOST_DIMENSIONS
    left = torch.full((2, most), 127, dtype=torch.int8)
    room = torch.empty(4, dtype=torch.int32)
    assert (whole_products(left, sign * left, room) == sign * most * 127**2).all()
