"""When a refresh is due, and what becomes of one that failed.

`refresh.generation` is one refresh; `Refresher` decides when one is due. Plain Python: the Ray
actor that runs it beside training is in `miner/miner_actor.py`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from facequarry.datasets.disk.errors import BadInput, Damaged
from facequarry.datasets.disk.fence import LockLost
from facequarry.datasets.generations.triplets import CorruptGeneration, read_generation_manifest
from facequarry.datasets.runs.events import EventLog, EventTail
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.miner.queue.client import MiningFailed
from facequarry.miner.queue.folder_watch import FolderWatch
from facequarry.miner.queue.journal import next_generation_number
from facequarry.miner.refresh.unit_rows import CannotEmbed
from facequarry.trainer.checkpoints.checkpoint import CheckpointMismatch

logger = logging.getLogger(__name__)


# Bad input all the same, of one checkpoint, shard or moment: another may be sound.
_MAY_PASS = (OSError, MemoryError, Damaged, CheckpointMismatch)


class Refresher:
    """Decides when a refresh is due: at the newest checkpoint that was not mined yet.

    While a refresh runs checkpoints may pass; the next one takes the newest and the others are
    counted as skipped. A failed refresh is logged and tried again on the newest checkpoint; one
    that the checkpoint itself is to blame for (`CannotEmbed`) only on another one, where training
    goes on and will bring it.

    Args:
        run: the run directory.
        refresh: mines (checkpoint step, generation number) and publishes.
        last_step: the run's last step; its checkpoint is not mined, nobody would consume it.
        max_failures: failures in a row after which `turn` raises MiningFailed if there is no
            generation yet. With one, training goes on and so does trying.
        random_until_mined: training goes on before the first generation too.
        log: takes the failures.
        clock: seconds since the epoch, as files are dated.
    """

    def __init__(
        self,
        run: RunDir,
        refresh: Callable[[int, int], object],
        *,
        last_step: int,
        max_failures: int,
        random_until_mined: bool = False,
        log: EventLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._run = run
        self._refresh = refresh
        self._last_step = last_step
        self._max_failures = max_failures
        self._random_until_mined = random_until_mined
        self._log = log
        self._failures = 0
        self._failed_step: int | None = None
        self._unusable_step: int | None = None
        self._mined_at: dict[int, int] = {}
        self._published_steps: set[int] = set()
        self._trainer = EventTail(run.events, "trainer")
        self._idle = FolderWatch((run.checkpoints, run.generations), clock)

    @property
    def failures(self) -> int:
        """Refreshes that failed in a row."""
        return self._failures

    def in_hand(self) -> dict[str, int]:
        """Return what a refresh would take now, as fields of an event; empty if none is due."""
        step = self.due()
        return (
            {}
            if step is None
            else {"checkpoint_step": step, "generation": next_generation_number(self._run)}
        )

    def is_due_at_once(self) -> bool:
        """Say whether a newer checkpoint is there than the one whose refresh failed last."""
        step = self.due()
        return self._failed_step is not None and step not in (None, self._failed_step)

    def due(self) -> int | None:
        """Return the checkpoint step to mine now; None when the newest is mined, or unusable."""
        if self._idle.is_proven():
            return None
        steps = [step for step in self._run.checkpoint_steps() if step < self._last_step]
        mined = self._mined_at_step()
        is_new = steps and (mined is None or steps[-1] > mined)
        if is_new and steps[-1] != self._unusable_step:
            return steps[-1]
        self._idle.prove()
        return None

    def turn(self) -> bool:
        """Refresh once if one is due; return whether a generation was published.

        Raises:
            MiningFailed: too many failures in a row, or one that cannot go away, and no generation
                to train on.
            LockLost: another miner took over.
        """
        step: int | None = None
        number: int | None = None
        try:
            step = self.due()
            if step is None:
                return False
            mined = self._mined_at_step()
            number = next_generation_number(self._run)
            self._refresh(step, number)
        except Exception as error:  # any failure is retried: training goes on meanwhile
            self._fail(step, number, error)
            return False
        self._failures, self._failed_step = 0, None
        passed = [s for s in self._steps_ever() if (-1 if mined is None else mined) < s < step]
        if passed:
            self._log.write(
                "skipped",
                checkpoint_step=step,
                generation=number,
                skipped_checkpoints=len(passed),
            )
        return True

    def _fail(self, step: int | None, number: int | None, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        logger.warning("refresh of checkpoint %s failed: %s", step, reason, exc_info=True)
        known = {"checkpoint_step": step, "generation": number}
        self._log.write(
            "failed", reason=reason, **{k: v for k, v in known.items() if v is not None}
        )
        if isinstance(error, LockLost):
            raise error
        self._failed_step = step
        if step is not None and step not in self._run.checkpoint_steps():
            return  # pruned while it was loading: the newest one is next
        self._failures += 1
        if isinstance(error, CannotEmbed) and (self._random_until_mined or self._mined_at):
            self._unusable_step = step  # training goes on, so another checkpoint will come
        # Mining is a function of what it is given: what was wrong with that is wrong next time.
        is_final = isinstance(error, BadInput | ImportError) and not isinstance(error, _MAY_PASS)
        if (is_final or self._failures >= self._max_failures) and not self._mined_at:
            times = "cannot succeed" if is_final else f"failed {self._failures} times in a row"
            raise MiningFailed(
                f"the first refresh {times}, at checkpoint {step}: {reason}"
            ) from error

    def _mined_at_step(self) -> int | None:
        """Return the newest checkpoint step that was mined; None before the first."""
        for number in set(self._run.generation_numbers()) - self._mined_at.keys():
            try:
                manifest = read_generation_manifest(self._run.generation(number))
            except (FileNotFoundError, CorruptGeneration):
                continue  # deleted meanwhile, or damaged: the queue records it
            self._mined_at[number] = int(manifest["mined_at_step"])
        return max(self._mined_at.values(), default=None)

    def _steps_ever(self) -> set[int]:
        """Return the steps of all checkpoints published so far, pruned ones included."""
        self._published_steps.update(self._run.checkpoint_steps())
        self._published_steps.update(
            event["step"] for event in self._trainer.new() if event["event"] == "checkpoint"
        )
        return self._published_steps
