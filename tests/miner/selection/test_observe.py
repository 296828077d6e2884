"""Hubs and confused identities against counting by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.miner.selection.observe import MOST_LISTED, observe

KINDS = ("semi_hard", "hard", "easy", "random")


def table(rows: list[tuple[int, int, str]]) -> pa.Table:
    """Return (anchor, negative, kind) rows as far as `observe` reads them."""
    anchor, negative, kind = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "anchor": pa.array(anchor, pa.int64()),
            "negative": pa.array(negative, pa.int64()),
            "kind": pa.array(kind, pa.string()).dictionary_encode(),
        }
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Any], list[int], list[tuple[int, int, str]]]:
    """Draw labels of one type, ascending row ids, and rows between different labels."""
    labels = draw(
        st.lists(st.integers(-3, 3), min_size=2, max_size=30)
        | st.lists(st.sampled_from(["a", "b", "ü", "10", "9"]), min_size=2, max_size=30)
    )
    ids = np.cumsum(draw(st.lists(st.integers(1, 9), min_size=len(labels), max_size=len(labels))))
    places = st.integers(0, len(labels) - 1)
    drawn = draw(st.lists(st.tuples(places, places, st.sampled_from(KINDS)), max_size=80))
    rows = [(int(ids[a]), int(ids[n]), kind) for a, n, kind in drawn if labels[a] != labels[n]]
    return labels, ids.tolist(), rows


@given(cases())
def test_counts_are_those_of_a_slow_count(
    case: tuple[list[Any], list[int], list[tuple[int, int, str]]],
) -> None:
    labels, ids, rows = case
    observed = observe(table(rows), labels, np.array(ids))
    label = dict(zip(ids, labels, strict=True))

    uses = Counter(negative for _, negative, _ in rows)
    anchors = {n: len({a for a, m, _ in rows if m == n}) for n in uses}
    order = sorted(uses, key=lambda n: (-anchors[n], -uses[n], n))
    assert [(h.face, h.anchors, h.rows, h.identity) for h in observed.hubs] == [
        (n, anchors[n], uses[n], label[n]) for n in order[:MOST_LISTED]
    ]
    assert observed.num_negatives == len(uses) == sum(observed.rows_by_uses)
    by_power = Counter(count.bit_length() - 1 for count in uses.values())
    assert dict(enumerate(observed.rows_by_uses)) == {
        power: by_power[power] for power in range(max(by_power, default=-1) + 1)
    }

    told = [(label[a], label[n]) for a, n, kind in rows if kind != "random"]
    pairs = Counter(tuple(sorted(pair)) for pair in told)
    wanted = sorted(pairs, key=lambda pair: (-pairs[pair], *pair))[:MOST_LISTED]
    assert [(c.identity_a, c.identity_b, c.rows) for c in observed.confused] == [
        (*pair, pairs[pair]) for pair in wanted
    ]
    assert all(c.rows_from_a == told.count((c.identity_a, c.identity_b)) for c in observed.confused)
    assert observed.num_confused == len(pairs)


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = [(0, 2, "semi_hard"), (1, 3, "hard"), (0, 3, "semi_hard"), (1, 2, "easy")]
    labels = ["a", "a", "b", "c"]
    assert observe(table(rows), labels) == observe(table(rows[::-1]), labels)


def test_an_empty_table_has_nothing() -> None:
    observed = observe(table([]), [1, 1, 2])
    assert (observed.num_negatives, observed.hubs, observed.confused) == (0, [], [])
    assert observed.rows_by_uses == []


def test_lists_are_bounded() -> None:
    rows = [(0, negative, "hard") for negative in range(1, 100)]
    observed = observe(table(rows), list(range(100)))
    assert len(observed.hubs) == len(observed.confused) == MOST_LISTED
    assert observed.num_confused == 99


@pytest.mark.parametrize(
    "labels",
    [
        np.array([b"x", b"y"]),
        np.array(["x", "y"], np.dtypes.StringDType()),
        np.array(["x", "y"], object),
    ],
)
def test_labels_of_any_string_type_are_plain_strings(labels: Any) -> None:
    (pair,) = observe(table([(0, 1, "hard")]), labels).confused
    assert (pair.identity_a, pair.identity_b) == ("x", "y")
    assert type(pair.identity_a) is str
