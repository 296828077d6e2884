from __future__ import annotations

import pytest

from facequarry.jobs.config import BadFlags, RunConfig, load_run_config
from facequarry.miner.refresh.refresh_config import RefreshConfig
from facequarry.trainer.config import TrainerConfig


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"max_staleness_steps": 0}, "max_staleness_steps is 0, it must be 1 or more"),
        ({"keep_generations": 0}, "keep_generations is 0, it must be 1 or more"),
        ({"on_stale": "wait"}, "set refresh.max_staleness_steps"),
        ({"carry_over": 1.5}, "must lie in 0 to 1"),
        ({"budget": "steps", "mode": "blocking"}, "stops training while a refresh runs"),
        ({"budget": "steps", "budget_share": 1.2}, "budget_share is 1.2, it must be above 0"),
        ({"budget": "steps", "budget_share": 0.0}, "budget_share is 0.0, it must be above 0"),
        ({"budget": "steps", "first_faces": 1}, "first_faces is 1: it must be 2 or more"),
        ({"first_faces": 100}, "it needs refresh.budget = steps"),
    ],
)
def test_a_setting_out_of_range_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RefreshConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("on_stale", ["continue", "wait"])
def test_a_limit_below_the_interval_and_the_prefetch_is_refused(on_stale: str) -> None:
    flags = ["--trainer.checkpoint-every=50", "--trainer.prefetch=2"]
    flags += [f"--refresh.on-stale={on_stale}"]
    with pytest.raises(BadFlags, match=r"less than trainer.checkpoint_every \+ trainer.prefetch"):
        load_run_config(None, [*flags, "--refresh.max-staleness-steps=51"])
    config = load_run_config(None, [*flags, "--refresh.max-staleness-steps=52"])
    assert config.refresh.max_staleness_steps == 52


def test_a_batch_that_does_not_divide_over_the_workers_is_refused() -> None:
    with pytest.raises(ValueError, match="the batch must divide over the workers"):
        RunConfig(trainer=TrainerConfig(batch=10, workers=4))
