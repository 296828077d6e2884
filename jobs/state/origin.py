"""Where a run's first weights came from, and whom they had been trained on before it.

`trainer.init_from` may name a checkpoint of another run, which may have started from a third one.
Whoever any of them trained on was seen by these weights: such people are held out of nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from facequarry.datasets.disk.errors import BadInput
from facequarry.datasets.faces.snapshots import read_identities
from facequarry.datasets.faces.split import Split
from facequarry.datasets.faces.store import FaceStore
from facequarry.datasets.generations.triplets import mined_snapshot
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.config import RunConfig
from facequarry.jobs.state.runs_on_disk import pinned_snapshot, read_run

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ancestor:
    """A run whose weights another one started from."""

    root: Path
    split: Split
    known: frozenset[str] | None
    """Identities that it had faces of; None where its faces are gone, and any name may be one."""

    def trained_on(self, identity: str) -> bool:
        """Whether the run trained on this person."""
        is_known = self.known is None or identity in self.known
        return is_known and self.split.of(identity) == "train"


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The runs that the first weights of a run lead back to, the nearest first."""

    ancestors: tuple[Ancestor, ...] = ()
    unknown: Path | None = None
    """Weights at the beginning that lie in no run: whom they were trained on is not known."""

    def trained_on(self, identity: str) -> bool:
        """Whether one of the runs trained on this person."""
        return any(ancestor.trained_on(identity) for ancestor in self.ancestors)


def origin_of(config: RunConfig) -> Origin:
    """Follow `trainer.init_from` from run to run.

    Raises:
        BadInput: a run's configuration or faces can be read no more.
    """
    ancestors: list[Ancestor] = []
    path = config.trainer.init_from
    while path is not None:
        run = RunDir(path.resolve().parent.parent)
        seen = any(ancestor.root == run.root for ancestor in ancestors)
        if seen or run.checkpoints != path.resolve().parent or not run.config.is_file():
            return Origin(ancestors=tuple(ancestors), unknown=path)
        before = read_run(run)
        ancestors.append(Ancestor(root=run.root, split=before.split, known=_known(before, run)))
        path = before.trainer.init_from
    return Origin(ancestors=tuple(ancestors))


def check_origin(config: RunConfig, store: FaceStore) -> None:
    """Refuse a run whose first weights were trained on people that it is to be evaluated on.

    Raises:
        BadInput: they were; the sentence names the run and its split.
    """
    origin = origin_of(config)
    part = config.evaluation.part
    evaluated = [name for name in store.identities if config.split.of(name) == part]
    for ancestor in origin.ancestors:
        seen = sum(map(ancestor.trained_on, evaluated))
        if seen:
            was = ancestor.split
            raise BadInput(
                f"{seen} of the {len(evaluated)} {part} identities were trained on by "
                f"{ancestor.root}, which trainer.init_from leads to; take its split (split.train "
                f"{was.train}, split.tuning {was.tuning}, split.seed {was.seed}) or other weights"
            )
    if origin.unknown is not None:
        logger.warning("%s", unknown_origin(origin.unknown))


def unknown_origin(path: Path) -> str:
    """Say what figures are worth whose model began with weights of no known run."""
    return f"began with {path}: whom that was trained on is not known, these people may be among it"


def people_of(config: RunConfig, run: RunDir) -> frozenset[str]:
    """Return the identities that a run had faces of: only these can have been trained on.

    Raises:
        NotFound: its faces are gone.
        BadInput: its folder holds others now.
    """
    snapshot = max(pinned_snapshot(config, run), mined_snapshot(run) or 0)
    return frozenset(read_identities(config.faces, snapshot))


def _known(config: RunConfig, run: RunDir) -> frozenset[str] | None:
    try:
        return people_of(config, run)
    except (OSError, BadInput) as error:
        logger.warning("all names that %s may have trained on count as such: %s", run.root, error)
        return None
