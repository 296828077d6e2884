"""Which settings may change when a run is gone on with: whatever decides no row that was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.publish import read_manifest
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import RunConfig, to_tree

# What may change between attempts without changing which rows a step gets or what they mean:
# faces may move, but `faces.json` says which snapshot they have to hold.
_MAY_CHANGE = ("name", "runs", "faces", "photos", "cluster", "evaluation", "ingest")
_MAY_CHANGE_IN = {
    "trainer": ("steps", "keep_checkpoints", "threads", "max_failures", "use_gpu"),
    "refresh": (
        "max_failures",
        "lease_timeout_s",
        "rows_per_step",
        "max_staleness_steps",
        "on_stale",
        "keep_generations",
        "budget",
        "budget_share",
        "first_faces",
    ),
    "miner": ("threads", "device"),
}
# Of trainer.schedule: their learning rate at a step does not depend on how many there are.
_SCHEDULES_WITHOUT_END = ("constant", "milestones")


def check_same(before: dict[str, Any], now: dict[str, Any], run: RunDir) -> None:
    """Refuse settings that cannot change between the attempts of a run.

    Args:
        before: the tree in the run's config.json.
        now: the tree of the configuration to go on with.
        run: the run, for the sentence.

    Raises:
        BadInput: a setting is another; the sentence names it and the ways out.
    """
    for section, value in now.items():
        if section in _MAY_CHANGE or section not in before:
            continue
        pairs = value.items() if isinstance(value, dict) else [(None, value)]
        for key, wanted in pairs:
            had = before[section] if key is None else before[section].get(key, wanted)
            if had != wanted and not _may_change(section, key, now):
                name = section if key is None else f"{section}.{key}"
                raise BadInput(
                    f"{run.root} was started with {name} = {had}, now it is {wanted}; resume "
                    "with the old value, or start a new run with --name"
                )


def changed_settings(config: RunConfig) -> list[str]:
    """Return a sentence for each setting that going on with a run would change.

    Where the run and its faces lie is not among them, nor what may not change: `check_run`
    refuses that.
    """
    run = RunDir(config.runs / config.name)
    if not run.config.is_file():
        return []
    before, now = read_manifest(run.config), to_tree(config)
    return [
        f"{name}: {had} before, now {wanted}"
        for name, had, wanted in _differences(before, now)
        if name not in ("name", "runs", "faces") and _is_allowed(name, now)
    ]


def _differences(
    before: dict[str, Any], now: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, object, object]]:
    for key, wanted in now.items():
        had = before.get(key, wanted)
        if isinstance(wanted, dict) and isinstance(had, dict):
            yield from _differences(had, wanted, f"{prefix}{key}.")
        elif had != wanted:
            yield f"{prefix}{key}", had, wanted


def _may_change(section: str, key: str | None, now: dict[str, Any]) -> bool:
    if (section, key) == ("trainer", "steps"):
        # A schedule that ends at the last step gave the steps until now another learning rate.
        return now["trainer"].get("schedule", "constant") in _SCHEDULES_WITHOUT_END
    return key in _MAY_CHANGE_IN.get(section, ())


def _is_allowed(name: str, now: dict[str, Any]) -> bool:
    section, _, key = name.partition(".")
    return section in _MAY_CHANGE or _may_change(section, key.partition(".")[0], now)
