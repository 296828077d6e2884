"""A run as one tree: code defaults, then a TOML file, then flags. Light: no torch, ray or faiss.

tyro parses twice: the file, flattened to flags, over the code's defaults; then the command line
over that. One checker serves both, `--help` shows the file's values, and an error names its source.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import tyro

from facequarry.datasets.config import IngestConfig
from facequarry.datasets.disk.errors import BadInput, NotFound
from facequarry.datasets.faces.split import Split
from facequarry.jobs.tyro_report import joined_doc_lines, one_sentence
from facequarry.miner.config import MinerConfig
from facequarry.miner.refresh.recipe_versions import GONE
from facequarry.miner.refresh.refresh_config import RefreshConfig
from facequarry.trainer.config import TrainerConfig

T = TypeVar("T")
_MOST_NAME_BYTES = 255

_ABSENT = object()
# Settings that only runs of older releases have, and the values that change no row; None: all.
_GONE: dict[str, Mapping[str, tuple[Any, ...] | None]] = {
    "miner": GONE["MinerConfig"],
    "cluster": {"gallery_gib": None},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """Verification of identities that were never trained on."""

    part: Literal["held_out", "tuning"] = "held_out"
    """Part of the identities that is evaluated: `held_out`, or `tuning` while choosing settings."""
    max_pairs: int = 20_000
    """Largest number of same-identity pairs; there are up to 20 times as many different ones."""

    def __post_init__(self) -> None:
        if self.max_pairs < 10:
            raise BadInput(f"evaluation.max_pairs is {self.max_pairs}, it must be 10 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Where it runs."""

    address: str | None = None
    """Ray cluster: `auto` for the one this process belongs to; None starts an embedded Ray."""
    num_cpus: int | None = None
    """CPUs of the embedded Ray; None takes the machine's."""
    object_store_gib: float = 1.0
    """Object store of the embedded Ray, GiB."""
    trainer_cpus: float = 1.0
    """CPUs that each training worker reserves."""
    miner_cpus: float = 1.0
    """CPUs that the miner reserves and its threads, at least one. For the search miner.threads wins
    where it is given."""
    miner_actors: int = 1
    """Processes that share the search of a refresh, with `miner_cpus` each; 1: the miner searches
    by itself. Never changes results."""
    embed_actors: int = 1
    """Processes that share the embedding of a refresh, likewise; one GPU each where it is embedded
    on GPUs. They have ended when the search begins, so that both take the same CPUs in turn."""
    face_cache: Path | None = None
    """Folder for the memory-mapped faces, on a disk of each node; None puts it beside the faces."""

    def __post_init__(self) -> None:
        for name in ("object_store_gib", "trainer_cpus", "miner_cpus"):
            if not getattr(self, name) > 0:
                raise BadInput(f"cluster.{name} is {getattr(self, name)}, it must be positive")
        for name in ("num_cpus", "miner_actors", "embed_actors"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise BadInput(f"cluster.{name} is {count}, it must be 1 or more")

    @property
    def num_miner_processes(self) -> int:
        """Most processes of `miner_cpus` each that a refresh has at a time."""
        return max(self.miner_actors, self.embed_actors)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One run: photos to faces to a trained embedding."""

    name: str = "run"
    """The run's folder under `runs`."""
    runs: Path = Path("runs")
    """Folder of all runs."""
    faces: Path = Path("faces/default")
    """Folder of faces in Parquet; filled from `photos` first where that is given."""
    photos: Path | None = None
    """Folder of <identity>/<photo>, ingested before training; None trains on `faces` as it is."""
    seed: int = 0
    """Of the initial weights, the augmentation, the choice of anchors and random triplets."""
    ingest: IngestConfig = field(default_factory=IngestConfig)
    split: Split = field(default_factory=Split)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    miner: MinerConfig = field(default_factory=MinerConfig)
    refresh: RefreshConfig = field(default_factory=RefreshConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise BadInput(f"name is {self.name!r}, expected a plain folder name")
        if len(self.name.encode()) > _MOST_NAME_BYTES:
            raise BadInput(
                f"name has {len(self.name.encode())} bytes, a folder's may have "
                f"{_MOST_NAME_BYTES}; it begins with {self.name[:20]!r}"
            )
        if not 0 <= self.seed < 2**32:
            raise BadInput(f"seed is {self.seed}, it must lie in 0 to 2**32 - 1")
        _check_finite(to_tree(self))
        limit = self.refresh.max_staleness_steps
        least = self.trainer.checkpoint_every + self.trainer.prefetch
        if limit is not None and limit < least:
            raise BadInput(
                f"refresh.max_staleness_steps is {limit}, less than trainer.checkpoint_every + "
                f"trainer.prefetch = {least}: each generation would be too old before the next one "
                f"can be there; set it to {least} or more"
            )


def _check_finite(tree: Mapping[str, Any], prefix: str = "") -> None:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            _check_finite(value, f"{prefix}{key}.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"{prefix}{key} is {value}, it must be a finite number")


RUN_HELP = """Ingest (if photos are named), train with mining beside it, evaluate.

Beside the flags below, and anywhere among them, it takes three more: --config FILE, a run file
(TOML) that the flags below override; --resume, to go on with the run of this name at its newest
checkpoint; --resume-from STEP, to go on at the checkpoint of that step and set aside what came
after it."""


class BadFlags(BadInput):
    """Flags or a run file that do not parse; the message says which, where and what to do."""


def load_run_config(
    file: Path | None, flags: Sequence[str], *, prog: str | None = None
) -> RunConfig:
    """Read a run: defaults, then the file, then flags.

    Args:
        file: a TOML run file, or the `config.json` of a run; None takes the code's defaults.
        flags: such as `--trainer.steps 200`.
        prog: the command's name in `--help`.

    Raises:
        BadFlags: an unknown key (with a suggestion), a wrong type or a value out of range.
        NotFound: there is no such file.
    """
    config = RunConfig()
    if file is not None:
        tree = read_tree(file)
        if file.suffix == ".json":  # a run's own, maybe of an older release
            tree = without_gone(tree, source=str(file))
        check_keys(tree, RunConfig, source=str(file))
        config = parse(RunConfig, to_flags(tree), default=config, source=str(file))
    return parse(RunConfig, flags, default=config, prog=prog, description=RUN_HELP)


def read_tree(file: Path) -> dict[str, Any]:
    """Read a TOML or JSON file as a tree.

    Raises:
        BadFlags: it is neither.
        NotFound: there is no such file.
    """
    if not file.is_file():
        raise NotFound(f"no run file {file}; the shipped ones are in jobs/runs/")
    try:
        text = file.read_text(encoding="utf-8")
        tree = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a parser's, or text that is no UTF-8
        raise BadFlags(f"{file} does not parse: {error}") from error
    if not isinstance(tree, dict):
        raise BadFlags(f"{file} holds no table of settings")
    tree.pop("schema_version", None)
    return tree


def without_gone(tree: dict[str, Any], *, source: str) -> dict[str, Any]:
    """Return the settings of a run of this release or an older one without those that are gone.

    Raises:
        BadFlags: one of them asks for what is gone.
    """
    kept = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    for section, settings in _GONE.items():
        for key, harmless in settings.items():
            value = kept.get(section, {}).pop(key, _ABSENT)
            if value is not _ABSENT and harmless is not None and value not in harmless:
                raise BadFlags(
                    f"{source}: {section}.{key} is {value}, which is gone since; go "
                    "on with the version of FaceQuarry that made the run, or start a new one"
                )
    return kept


def to_tree(config: object) -> dict[str, Any]:
    """Return a configuration as a tree that JSON and `to_flags` take."""
    if not is_dataclass(config):
        raise TypeError(f"{config!r} is no configuration")
    return {f.name: _to_value(getattr(config, f.name)) for f in fields(config)}


def _to_value(value: object) -> object:
    if is_dataclass(value):
        return to_tree(value)
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def to_flags(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Flatten a tree to flags: {"trainer": {"steps": 9}} to ["--trainer.steps", "9"]."""
    flags: list[str] = []
    for key, value in tree.items():
        name = f"{prefix}{key.replace('_', '-')}"
        match value:
            case Mapping():
                flags += to_flags(value, f"{name}.")
            case bool():
                path, _, leaf = name.rpartition(".")
                dot = f"{path}." if path else ""
                flags.append(f"--{name}" if value else f"--{dot}no-{leaf}")
            case None:
                flags += [f"--{name}", "None"]
            case list():
                flags += [f"--{name}", *map(str, value)]
            case _:
                # One word: a value that begins with a dash is a value all the same.
                flags.append(f"--{name}={value}")
    return flags


def check_keys(tree: Mapping[str, Any], kind: type, *, source: str, prefix: str = "") -> None:
    """Refuse unknown keys, with the nearest known one as a suggestion.

    Raises:
        BadFlags: a key is unknown, or a section is given as a plain value.
    """
    known = {f.name: f for f in fields(kind)}
    for key, value in tree.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}"
            raise BadFlags(f"{source}: unknown key {prefix}{key}; {hint}")
        section: object = known[key].default_factory
        if isinstance(section, type) and is_dataclass(section):
            if not isinstance(value, Mapping):
                raise BadFlags(f"{source}: {prefix}{key} is a section, write [{prefix}{key}]")
            check_keys(value, section, source=source, prefix=f"{prefix}{key}.")


def parse(
    kind: type[T],
    flags: Sequence[str],
    *,
    default: T | None = None,
    source: str = "the command line",
    prog: str | None = None,
    description: str | None = None,
) -> T:
    """Parse flags over a default with tyro, turning its report into one sentence.

    Raises:
        BadFlags: with tyro's sentence and the source of the flags.
        SystemExit: 0, after `--help` was printed.
    """
    report = io.StringIO()
    try:
        with contextlib.redirect_stderr(report), joined_doc_lines():
            if default is None:
                return tyro.cli(kind, args=list(flags), prog=prog, description=description)
            return tyro.cli(
                kind, args=list(flags), default=default, prog=prog, description=description
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise BadFlags(f"{source}: {one_sentence(report.getvalue())}") from None
    except BadInput as error:
        raise BadFlags(f"{source}: {error}") from error
