"""The queue's journal of a run that was trained to a step, made without a queue."""

from __future__ import annotations

from facequarry.datasets.runs.run_dir import RunDir
from facequarry.jobs.state.runs_on_disk import read_run
from facequarry.miner.queue.journal import Journal
from facequarry.miner.queue.queue import Switch


def grant(run: RunDir, through_step: int) -> None:
    """Journal that the steps up to this one got random triplets."""
    config = read_run(run)
    journal = Journal(
        run.queue_journal,
        batch=config.trainer.batch,
        carry_over=config.refresh.carry_over,
        seed=config.seed,
    )
    if journal.state.current is None:
        journal.switch(Switch(None, 0, 0, 0))
    if through_step > journal.state.granted_through:
        journal.grant(through_step)
