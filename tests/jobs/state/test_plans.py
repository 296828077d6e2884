from __future__ import annotations

from facequarry.jobs.config import load_run_config
from facequarry.jobs.state.plans import LEAST_BATCHES, refresh_plan
from facequarry.miner.refresh.budget.budget import Budget


def test_a_budget_is_the_interval_of_the_checkpoints() -> None:
    flags = ["--trainer.checkpoint-every=25", "--trainer.batch=40", "--refresh.budget=steps"]
    config = load_run_config(None, [*flags, "--refresh.first-faces=500"])
    assert refresh_plan(config).budget == Budget(
        steps=25, share=0.8, least_rows=LEAST_BATCHES * 40, first_faces=500
    )


def test_there_is_no_budget_unless_one_is_asked_for() -> None:
    assert refresh_plan(load_run_config(None, [])).budget is None
