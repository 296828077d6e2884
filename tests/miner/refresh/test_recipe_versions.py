"""Generations of other releases: replayed where nothing is lost by it, else refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facequarry.datasets.disk.publish import NewerSchema, dump_json
from facequarry.datasets.generations.triplets import read_generation_manifest
from facequarry.miner.config import MinerConfig
from facequarry.miner.refresh import recipe, recipe_versions
from facequarry.miner.refresh.recipe_versions import BEFORE, GONE
from facequarry.miner.refresh.replay import Replay, replay_generation
from tests.miner.small_run import PLAN, SmallRun

# What the release before recipes had a version wrote into a manifest's config, in full.
FIRST_CONFIG = {
    "margin": 0.2,
    "engine": "exact",
    "faiss_index": "Flat",
    "nprobe": None,
    "train_rows": None,
    "faiss_gpus": "none",
    "neighbours": 64,
    "neighbours_limit": 2048,
    "resolve": "none",
    "routed_identities": 8,
    "anchors": 8,
    "positives": "all",
    "positives_per_anchor": None,
    "negatives": "random",
    "negatives_per_pair": 1,
    "distinct_negative_identities": False,
    "max_uses_as_negative": None,
    "fallback": ["easy"],
    "duplicate_floor": 1e-4,
    "positive_cap": None,
    "count_kinds": False,
    "device": "cpu",
    "gpu_memory_gib": None,
}
# What each version of a recipe names; a change of the fields takes a row here and a new version.
FIELDS_OF = {1: FIRST_CONFIG.keys(), 2: FIRST_CONFIG.keys() - {"count_kinds"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class LaterConfig(MinerConfig):
    """An option more than there is; its default mines otherwise than was mined without it."""

    sharpness: float = 2.0


def rewrite(small: SmallRun, change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Publish a generation as another release would have."""
    small.mine(0)
    path = small.run.generation(0) / "manifest.json"
    manifest: dict[str, Any] = json.loads(path.read_text())
    change(manifest)
    path.write_text(dump_json(manifest))
    return manifest


def replayed(small: SmallRun) -> Replay:
    return replay_generation(small.run, small.at, 0)


def as_first_release(manifest: dict[str, Any]) -> None:
    del manifest["recipe_version"]
    anchors = manifest["config"]["anchors"]
    manifest["config"] = FIRST_CONFIG | {"anchors": anchors}
    manifest["stats"]["negatives_by_kind"] = None
    manifest["timing"]["count_s"] = 0.0


def test_a_generation_of_the_first_release_is_replayed_byte_for_byte(small: SmallRun) -> None:
    rewrite(small, as_first_release)
    before = {path.name: path.read_bytes() for path in small.run.generation(0).iterdir()}
    assert replayed(small).difference is None
    assert {p.name: p.read_bytes() for p in small.run.generation(0).iterdir()} == before


def test_counted_kinds_are_no_part_of_the_rows(small: SmallRun) -> None:
    def change(manifest: dict[str, Any]) -> None:
        as_first_release(manifest)
        manifest["config"]["count_kinds"] = True
        manifest["stats"]["negatives_by_kind"] = {"hard": 1, "semi_hard": 2, "easy": 3}

    rewrite(small, change)
    assert replayed(small).difference is None


def test_its_damaged_rows_are_restored(small: SmallRun) -> None:
    rewrite(small, as_first_release)
    part = small.run.generation(0) / "part-00000.parquet"
    before = part.read_bytes()
    part.write_bytes(before[:-9])
    replay = replayed(small)
    assert (replay.difference, replay.damaged) == (None, (part.name,))
    assert part.read_bytes() == before


def test_an_option_that_came_later_has_the_value_of_before_it_came(
    small: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(small, lambda manifest: manifest.update(recipe_version=1))
    monkeypatch.setattr(recipe, "MinerConfig", LaterConfig)
    monkeypatch.setitem(recipe_versions.BEFORE, "LaterConfig", {"sharpness": 1.0})
    manifest = read_generation_manifest(small.run.generation(0))
    read = recipe.Recipe.from_manifest(manifest, small.run.generation(0))
    assert read.config.sharpness == 1.0  # type: ignore[attr-defined]
    assert replayed(small).difference is None


def test_a_row_that_was_mined_otherwise_is_still_a_difference(small: SmallRun) -> None:
    def change(manifest: dict[str, Any]) -> None:
        as_first_release(manifest)
        manifest["stats"]["pairs"] += 1

    rewrite(small, change)
    assert "stats.pairs" in (replayed(small).difference or "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["config"].update(rule="strict"), "rule = strict, which is gone since"),
        (lambda m: m["config"].update(sharpness=1.0), "it differs in sharpness"),
        (lambda m: m["config"].pop("margin"), "it differs in margin"),
        (lambda m: m["split"].pop("seed"), "it differs in seed"),
        (lambda m: m["plan"].pop("seed"), "it lacks 'seed'"),
    ],
)
def test_what_no_release_wrote_or_what_is_gone_is_refused(
    small: SmallRun,
    change: Callable[[dict[str, Any]], object],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rewrite(small, change)
    monkeypatch.setitem(recipe_versions.GONE, "MinerConfig", {"rule": ("none",)})
    with pytest.raises(ValueError, match="generation 0 cannot be replayed") as caught:
        replayed(small)
    assert words in str(caught.value)


def test_a_newer_recipe_is_refused(small: SmallRun) -> None:
    rewrite(small, lambda manifest: manifest.update(recipe_version=99))
    with pytest.raises(NewerSchema, match="recipe 99, this one knows 2"):
        replayed(small)


@pytest.mark.parametrize("version", ["2", None, True])
def test_a_version_that_is_no_number_is_refused(small: SmallRun, version: object) -> None:
    rewrite(small, lambda manifest: manifest.update(recipe_version=version))
    with pytest.raises(ValueError, match="generation 0 cannot be replayed: recipe_version"):
        replayed(small)


def test_a_change_of_the_fields_comes_with_a_version_that_reads_all_before() -> None:
    now = {field.name for field in fields(MinerConfig)} - {"threads"}
    assert FIELDS_OF[recipe_versions.RECIPE_VERSION] == now
    gone, before = (table["MinerConfig"].keys() for table in (GONE, BEFORE))
    for version, named in FIELDS_OF.items():
        assert (named - gone) | before == now, version


@given(st.sets(st.sampled_from(sorted(FIELDS_OF[2]))))
def test_whichever_fields_came_later_they_are_filled_in(absent: set[str]) -> None:
    named = {name: FIRST_CONFIG[name] for name in FIELDS_OF[2] - absent}
    with pytest.MonkeyPatch.context() as patch:
        came = {name: f"before {name}" for name in absent}
        patch.setitem(recipe_versions.BEFORE, "MinerConfig", came)
        read = recipe_versions.read_fields(MinerConfig, named, apart=("threads",))
    assert read == named | came


def test_the_plan_of_these_tests_mines_what_the_first_release_could(small: SmallRun) -> None:
    config = small.mine(0)["config"]
    differing = {name for name in config if config[name] != FIRST_CONFIG.get(name)}
    assert differing <= {"anchors"}
    assert replace(PLAN.config, anchors=None) == PLAN.config
