from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import miner.multiply
from miner.distance import product_share
from miner.multiply import (
    MOST_DIMENSIONS,
    float32_products,
    int8_is_exact,
    onednn_pays,
    whole_products,
)


def operands(dimension: int = 128) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(5, dimension, generator=random), torch.randn(33, dimension, generator=random)


@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("dimension", [1, 2, 17, 128, 512])
def test_float32_products_keep_within_the_bound(
    monkeypatch: pytest.MonkeyPatch, pays: bool, dimension: int
) -> None:
    if pays:
        onednn_or_skip()
    monkeypatch.setattr(miner.multiply, "onednn_pays", lambda dimension: pays)
    left, right = operands(dimension)
    found = float32_products(left, right, torch.empty(5 * 33 + 7))
    assert found.shape == (5, 33) and found.dtype == np.float32
    norms = left.double().norm(dim=1)[:, None] * right.double().norm(dim=1)
    error = np.abs(found - (left.double() @ right.double().T).numpy())
    assert (error <= 2 * product_share(dimension) * norms.numpy()).all()


def onednn_or_skip() -> None:
    try:
        miner.multiply._by_onednn(*operands())
    except (AttributeError, RuntimeError) as error:
        pytest.skip(f"this torch multiplies nothing through oneDNN: {error}")


def test_onednn_is_not_taken_where_it_rounds_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_bfloat16(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left.bfloat16().float() @ right.bfloat16().float().T

    monkeypatch.setattr(miner.multiply, "_by_onednn", in_bfloat16)
    monkeypatch.setattr(miner.multiply, "_ONEDNN_PAYS_FROM", 0.0)
    for dimension in (2, 128, 512):
        assert not onednn_pays.__wrapped__(dimension)


def test_onednn_is_taken_where_it_is_exact_and_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_less_exact(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left @ right.T

    monkeypatch.setattr(miner.multiply, "_by_onednn", no_less_exact)
    for pays_from, pays in ((0.0, True), (np.inf, False)):
        monkeypatch.setattr(miner.multiply, "_ONEDNN_PAYS_FROM", pays_from)
        assert onednn_pays.__wrapped__(128) == pays


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, NotImplementedError])
def test_a_torch_without_onednn_does_without(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def absent(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(miner.multiply, "_by_onednn", absent)
    assert not onednn_pays.__wrapped__(128)


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
        monkeypatch.setattr(miner.multiply, "int8_is_exact", is_exact)
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
