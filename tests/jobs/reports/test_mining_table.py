"""The printed rows are the manifest's counts, and they add up."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import Any

import pytest
from rich.console import Console

from facequarry.jobs.reports.mining_table import as_table, generation_table, mining_rows
from facequarry.miner import MinerConfig, mine
from facequarry.miner.selection.observe import observe
from tests.miner.inputs import separated

CONFIG = MinerConfig(threads=1, fallback=("easy", "hard"), max_uses_as_negative=2, positive_cap=1.2)


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    x, identities = separated(num_identities=12, faces=5, dimension=16, noise=0.8)
    mined = mine(x, identities, config=CONFIG)
    stats = replace(mined.stats, dimension=16, observed=observe(mined.table, identities))
    return {
        "generation": 3,
        "mined_at_step": 40,
        "snapshot": 1,
        "rows": stats.rows,
        "config": asdict(CONFIG),
        "stats": stats.to_dict(),
        "timing": {"embed_s": 2.0, "search_s": 0.5, "select_s": 0.25, "recall_s": 0.0},
    }


def rows_of(manifest: dict[str, Any]) -> dict[str, str]:
    return dict(mining_rows(manifest, lambda identity: f"[{identity}]"))


def numbers(text: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d(?![\d.]* %)", text)]


def test_the_rows_add_up(manifest: dict[str, Any]) -> None:
    rows, stats = rows_of(manifest), manifest["stats"]
    outcomes = ("semi-hard", "band empty", "beyond search", "suspect")
    found = [numbers(rows[f"{outcome} pairs"])[0] for outcome in outcomes]
    assert sum(found) == numbers(rows["anchors, pairs"])[1] == stats["pairs"]
    total, *kinds = numbers(rows["triplets"])
    assert sum(kinds) == total == stats["rows"]
    assert sum(numbers(rows["faces that are a negative"])) == stats["num_embedded"] == 60
    dropped, limit = numbers(rows["rows over max uses as negative"])
    assert (dropped, limit) == (stats["over_max_uses"], 2)
    assert re.findall("easy|hard", rows["pairs served by rung"]) == ["easy", "hard"]


def test_kinds_are_in_their_own_order_however_json_sorted_them(manifest: dict[str, Any]) -> None:
    stats = manifest["stats"]
    by_name = dict(sorted(stats["rows_by_kind"].items()))
    rows = rows_of({**manifest, "stats": {**stats, "rows_by_kind": by_name}})
    assert re.findall("semi-hard|hard|easy|random", rows["triplets"]) == [
        "semi-hard",
        "hard",
        "easy",
        "random",
    ]


def test_what_an_engine_says_of_itself_is_shown_once_it_says_so(manifest: dict[str, Any]) -> None:
    before = rows_of(manifest)
    told = {"symmetric": True, "undecided_share": 0.0123}
    after = rows_of(
        {
            **manifest,
            "timing": {**manifest["timing"], **told},
        }
    )
    search = "useful GFLOP/s of the search"
    assert (
        after[search] == f"{before[search]} (each product served both its sides, 1.23 % recomputed)"
    )


def test_a_pass_without_rows_says_why(manifest: dict[str, Any]) -> None:
    x, identities = separated(num_identities=4, faces=3, dimension=8, noise=0.5)
    mined = mine(x, identities, config=MinerConfig(threads=1, positive_cap=1e-6))
    rows = rows_of({**manifest, "rows": 0, "stats": mined.stats.to_dict()})
    assert "are over miner.positive_cap (raise it" in rows[""]
    assert "negatives of most anchors" not in rows


def test_a_manifest_from_before_looking_has_a_table(manifest: dict[str, Any]) -> None:
    stats = {k: v for k, v in manifest["stats"].items() if k not in ("observed", "dimension")}
    rows = rows_of({**manifest, "stats": stats})
    assert "useful GFLOP/s of the search" not in rows and "triplets" in rows


def test_names_in_brackets_are_printed_as_they_are(manifest: dict[str, Any]) -> None:
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(as_table("t", [("most confused", "[bold] and [/x]")]))
        console.print(generation_table(manifest, lambda identity: f"[{identity}]"))
    text = capture.get()
    assert "[bold] and [/x]" in text
    assert "Generation 3" in text and "mined at step" in text
