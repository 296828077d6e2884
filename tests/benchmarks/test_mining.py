from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest

from benchmarks.galleries import GALLERIES
from benchmarks.mining import CONFIG, Case, check_same, measure, mine_in_float32
from facequarry.miner import mine
from facequarry.miner.engines import exact
from facequarry.miner.engines.products import int8_product


@pytest.mark.parametrize("gallery", ["separated", "untrained"])
def test_a_case_is_measured_beside_float32_and_the_products(
    monkeypatch: pytest.MonkeyPatch, gallery: str
) -> None:
    monkeypatch.setattr(exact, "INT8_FROM", 0)
    row = measure(Case(gallery=gallery, num_rows=2000, dimension=32, anchors=200, repeats=1))
    assert row.float32_s is not None and row.faiss_s is None
    assert min(row.mine_s, row.product_s, row.fastest_s, row.float32_s, row.gflops) > 0


def test_int8_is_forbidden_for_one_call_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "INT8_FROM", 0)
    monkeypatch.setattr(exact, "int8_pays", lambda dimension: True)
    spy = mock.Mock(wraps=int8_product)
    monkeypatch.setattr(exact, "int8_product", spy)
    gallery = GALLERIES["confusable"](400)
    mine_in_float32(gallery, CONFIG)
    spy.assert_not_called()
    mine(*gallery, config=CONFIG)
    spy.assert_called_once()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"negatives": "random"}, "table, stats differ"),
        ({"duplicate_floor": 1.9}, "table, suspects, stats differ"),
    ],
)
def test_another_result_is_an_error(changed: dict[str, object], words: str) -> None:
    gallery = GALLERIES["untrained"](400)
    config = replace(CONFIG, **changed)  # type: ignore[arg-type]
    ours = mine(*gallery, config=CONFIG)
    check_same("untrained", ours, mine_in_float32(gallery, CONFIG))
    with pytest.raises(RuntimeError, match=f"untrained: {words} with and without int8"):
        check_same("untrained", ours, mine_in_float32(gallery, config))
