"""Recipes of older releases: what they do not name yet, and what they name that is gone.

A replay is the only repair of a generation, so an option that comes or goes must not take it away.
Whoever adds a field to `MinerConfig`, `Split` or `Augmentation` adds a row to `BEFORE`: the value
that mines what was mined while there was no such field, whatever its default is. Whoever removes
one adds a row to `GONE`: the values with which the same rows are mined without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.disk.publish import NewerSchema

RECIPE_VERSION = 2
"""Goes up when fields come or go; a manifest without one is of version 1."""

Values = Mapping[str, Any]

BEFORE: dict[str, Values] = {"MinerConfig": {}, "Split": {}, "Augmentation": {}}
"""By class: fields that older recipes lack, each with what it was before it existed."""

# Counting the kinds filled a statistic and never chose a row, so either value is mined alike.
GONE: dict[str, Mapping[str, tuple[Any, ...]]] = {"MinerConfig": {"count_kinds": (False, True)}}
"""By class: fields that only older recipes have, each with the values that change no row."""

GONE_STATS = ("negatives_by_kind",)
"""Statistics that only older manifests have."""


def check_version(manifest: Values) -> None:
    """Refuse a recipe that a newer FaceQuarry wrote.

    Raises:
        NewerSchema: it did.
        BadInput: its version is no number.
    """
    version = manifest.get("recipe_version", 1)
    if type(version) is not int:
        raise BadInput(
            f"generation {manifest['generation']} cannot be replayed: recipe_version of its "
            f"manifest is {version!r}, which is no number; restore that file"
        )
    if version > RECIPE_VERSION:
        raise NewerSchema(
            f"generation {manifest['generation']} was mined by a newer FaceQuarry (recipe "
            f"{version}, this one knows {RECIPE_VERSION}); update it to replay"
        )


def read_fields(kind: type, values: Values, *, apart: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the fields of a class as a recipe of any release up to this one names them.

    Args:
        kind: `MinerConfig`, `Split` or `Augmentation`.
        values: what the manifest has of it.
        apart: fields that no recipe has, because they determine nothing.

    Raises:
        BadInput: something was asked for that is gone, or fields are missing or unknown that no
            release left out or had.
    """
    found = dict(values)
    for name, harmless in GONE.get(kind.__name__, {}).items():
        if found.pop(name, harmless[0]) not in harmless:
            raise BadInput(f"it asks for {name} = {values[name]}, which is gone since")
    needed = {field.name for field in fields(kind)} - {*apart}
    before = BEFORE.get(kind.__name__, {})
    found |= {name: before[name] for name in needed - found.keys() if name in before}
    if differing := sorted(found.keys() ^ needed):
        raise BadInput(f"it differs in {', '.join(differing)}")
    return found


def as_of(published: Values, again: Values) -> tuple[Values, Values]:
    """Return two manifests of one generation without what only one of their releases could say.

    Args:
        published: by this release or an older one.
        again: by this release.
    """
    if published.get("recipe_version", 1) == again.get("recipe_version", 1):
        return published, again
    older = {name: value for name, value in published.items() if name != "recipe_version"}
    gone = GONE["MinerConfig"]
    older["config"] = {k: v for k, v in published["config"].items() if k not in gone}
    older["stats"] = {k: v for k, v in published["stats"].items() if k not in GONE_STATS}
    return older, _common(older, again)


def _common(older: Values, newer: Values) -> dict[str, Any]:
    """Return what `newer` says of that which `older` says."""
    return {
        name: _common(older[name], value)
        if isinstance(value, Mapping) and isinstance(older[name], Mapping)
        else value
        for name, value in newer.items()
        if name in older
    }
