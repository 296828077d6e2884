from __future__ import annotations

import pytest

from benchmarks.mining import Case, measure


@pytest.mark.parametrize("gallery", ["separated", "untrained"])
def test_a_case_is_measured_beside_the_products(gallery: str) -> None:
    row = measure(Case(gallery=gallery, num_rows=2000, dimension=32, anchors=200, repeats=1))
    assert row.faiss_s is None
    assert min(row.mine_s, row.product_s, row.fastest_s, row.gflops) > 0
