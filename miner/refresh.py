"""A refresh: embed with the newest checkpoint, mine, publish the next generation; and when.

`make_generation` is one refresh; `Refresher` decides when one is due. Plain Python: the Ray actor
that runs it beside training is in `actors.py`, and `facequarry mine` calls it directly.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from datasets.events import EventLog
from datasets.faces import FaceStore
from datasets.lock import WriterLock
from datasets.publish import sweep_staging
from datasets.run_dir import RunDir
from datasets.split import Split
from datasets.triplets import mined_snapshot, publish_generation, read_generation_manifest
from miner.config import MinerConfig
from miner.journal import next_generation_number
from miner.pack import pack
from miner.refresh_config import Snapshots
from trainer.checkpoint import load_model
from trainer.embed import embed
from trainer.faces import RunFaces

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RefreshPlan:
    """What every refresh of a run is told.

    Attributes:
        config: how to mine.
        split: which identities are mined (the training part).
        rows_needed: triplets that training will consume before the next generation; anchors are
            budgeted by it where `config.anchors` is None. None: every face is an anchor.
        seed: the run's seed.
        snapshots: mine the newest snapshot of the faces, or always the run's first.
    """

    config: MinerConfig
    split: Split
    rows_needed: int | None
    seed: int
    snapshots: Snapshots = "newest"

    def resolved(self, identities: npt.NDArray[np.integer]) -> MinerConfig:
        """Return the miner's configuration with the anchors this plan asks for.

        Args:
            identities: (N,) the identity of each embedded face.
        """
        if self.config.anchors is not None or self.rows_needed is None:
            return self.config
        counts = np.unique(identities, return_counts=True)[1]
        positives = np.minimum(counts - 1, self.config.positives_per_anchor or counts.max())
        # Rows that an anchor gives, over the faces that have a positive at all.
        per_anchor = np.average(positives, weights=counts * (counts > 1))
        per_anchor *= self.config.negatives_per_pair
        wanted = math.ceil(self.rows_needed / per_anchor)
        return self.config if wanted >= len(identities) else replace(self.config, anchors=wanted)


def make_generation(
    run: RunDir,
    faces: RunFaces,
    plan: RefreshPlan,
    *,
    step: int,
    number: int,
    log: EventLog,
    clock: Callable[[], float] = time.time,
) -> int:
    """Mine the checkpoint of `step` and publish generation `number`; return its rows.

    Raises:
        FileNotFoundError: the checkpoint is not there (any more), or a snapshot that the
            generations before were mined from.
        CorruptCheckpoint, CheckpointMismatch: its weights cannot be used.
        AlreadyPublished: another miner published this number.
    """
    from miner import mine  # heavy: numba compiles on first use

    began = clock()
    log.write("begin", checkpoint_step=step, generation=number)
    model, checkpoint = load_model(run.checkpoint(step))
    store = _store_to_mine(run, faces, plan)
    face_indices = plan.split.faces(store, "train")
    identities = store.identity_index[face_indices]
    embeddings = embed(model, store, face_indices)
    embedded = clock()

    config = plan.resolved(identities)
    seed = plan.seed * 1_000_003 + number  # other anchors and other random negatives each time
    mined = mine(embeddings, identities, config=config, seed=seed, row_ids=face_indices)
    mined_time = clock()

    anchors = mined.table["anchor"].to_numpy()
    table = pack(mined.table, store.identity_index[anchors], seed=seed)
    stats = mined.stats.to_dict()
    publish_generation(
        run.generation(number),
        table,
        mined.suspects,
        number=number,
        mined_at_step=step,
        facts={
            "weight_sha256": checkpoint["weight_sha256"],
            "snapshot": store.manifest.number,
            "plan": {
                "engine": mined.stats.engine,
                "embedded_faces": mined.stats.num_embedded,
                "embedded_identities": mined.stats.num_identities,
                "anchors": mined.stats.num_anchors,
                "largest_k": mined.stats.largest_k,
                "seed": seed,
            },
            # Threads never change results, so they are no part of what determines them.
            "config": {k: v for k, v in asdict(config).items() if k != "threads"},
            "stats": stats,
        },
        timing={"embed_s": embedded - began, "mine_s": mined_time - embedded},
    )
    ended = clock()
    new_identities = np.unique(identities[identities >= faces.first.num_identities])
    counts = ("pairs", "semi_hard", "band_empty", "beyond_search", "suspect")
    log.write(
        "published",
        checkpoint_step=step,
        generation=number,
        snapshot=store.manifest.number,
        faces=len(face_indices),
        new_identities=len(new_identities),
        rows=table.num_rows,
        embed_s=embedded - began,
        mine_s=mined_time - embedded,
        publish_s=ended - mined_time,
        refresh_s=ended - began,
        **{name: stats[name] for name in counts},
    )
    return int(table.num_rows)


def _store_to_mine(run: RunDir, faces: RunFaces, plan: RefreshPlan) -> FaceStore:
    """Return the faces of the newest snapshot, never an older one than was mined before."""
    if plan.snapshots == "pinned":
        return faces.store
    return faces.reach_newest(at_least=mined_snapshot(run) or 0)


@contextlib.contextmanager
def mining(run: RunDir, *, timeout_s: float = 0.0) -> Iterator[None]:
    """Be the one miner of a run for the block, and sweep what a killed one left.

    Raises:
        LockHeld: another miner kept the lock for `timeout_s`.
    """
    with WriterLock(run.miner_lock, timeout_s=timeout_s):
        sweep_staging(run.generations)
        yield


class MiningFailed(RuntimeError):
    """No first generation came about; the message holds the last reason."""


class Refresher:
    """Decides when a refresh is due: at the newest checkpoint that was not mined yet.

    While a refresh runs checkpoints may pass; the next one takes the newest and the others are
    counted as skipped. A failed refresh is logged and tried again on the newest checkpoint.

    Args:
        run: the run directory.
        refresh: mines (checkpoint step, generation number) and publishes.
        last_step: the run's last step; its checkpoint is not mined, nobody would consume it.
        max_failures: failures in a row after which `turn` raises MiningFailed if there is no
            generation yet. With one, training goes on and so does trying.
        log: takes the failures.
    """

    def __init__(
        self,
        run: RunDir,
        refresh: Callable[[int, int], object],
        *,
        last_step: int,
        max_failures: int,
        log: EventLog,
    ) -> None:
        self._run = run
        self._refresh = refresh
        self._last_step = last_step
        self._max_failures = max_failures
        self._log = log
        self._failures = 0
        self._mined_at: dict[int, int] = {}

    @property
    def failures(self) -> int:
        """Refreshes that failed in a row."""
        return self._failures

    def due(self) -> int | None:
        """Return the checkpoint step to mine now; None when the newest one is mined."""
        steps = [step for step in self._run.checkpoint_steps() if step < self._last_step]
        if not steps:
            return None
        mined = self._mined_at_step()
        return steps[-1] if mined is None or steps[-1] > mined else None

    def turn(self) -> bool:
        """Refresh once if one is due; return whether a generation was published.

        Raises:
            MiningFailed: too many failures in a row, and no generation to train on.
        """
        step: int | None = None
        try:
            step = self.due()
            if step is None:
                return False
            mined = self._mined_at_step()
            self._refresh(step, next_generation_number(self._run))
        except Exception as error:  # any failure is retried: training goes on meanwhile
            self._failures += 1
            reason = f"{type(error).__name__}: {error}"
            logger.warning("refresh of checkpoint %s failed: %s", step, reason, exc_info=True)
            self._log.write("failed", checkpoint_step=step, reason=reason)
            if self._failures >= self._max_failures and not self._mined_at:
                raise MiningFailed(
                    f"{self._failures} refreshes failed in a row, the last one at checkpoint "
                    f"{step}: {reason}"
                ) from error
            return False
        passed = [s for s in self._run.checkpoint_steps() if (mined or 0) < s < step]
        self._failures = 0
        if passed:
            self._log.write("skipped", checkpoint_step=step, skipped_checkpoints=len(passed))
        return True

    def _mined_at_step(self) -> int | None:
        """Return the newest checkpoint step that was mined; None before the first."""
        for number in set(self._run.generation_numbers()) - self._mined_at.keys():
            manifest = read_generation_manifest(self._run.generation(number))
            self._mined_at[number] = int(manifest["mined_at_step"])
        return max(self._mined_at.values(), default=None)
