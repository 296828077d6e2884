from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.training.arms import check_reusable, figures_of, spread
from facequarry.datasets.disk.publish import write_json
from facequarry.datasets.runs.run_dir import METRICS, RunDir
from facequarry.jobs.config import EvaluationConfig, RunConfig, to_tree
from facequarry.trainer.config import TrainerConfig


def test_a_figure_that_too_few_pairs_have_is_not_0(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    found = {"auc": 0.9, "tar_at_far": {"1e-2": 0.5, "1e-3": None}}
    write_json(run.evaluation(4) / METRICS, {"verification": found})
    figures = figures_of(run, 4, "held_out")
    assert figures == {"AUC": 0.9, "TAR at FAR 1e-2": 0.5, "TAR at FAR 1e-3": None}
    assert spread([0.25, 0.75]) == "0.500 [0.250, 0.750]"
    assert spread([0.25, figures["TAR at FAR 1e-3"]]) == "n/a"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seed": 1}, "was started with seed = 0, now it is 1"),
        ({"trainer": TrainerConfig(learning_rate=0.5)}, "trainer.learning_rate = 0.001, now"),
        ({"evaluation": EvaluationConfig(max_pairs=99)}, "max_pairs = 20000, now it is 99"),
    ],
)
def test_a_finished_run_of_other_settings_is_not_taken_for_this_one(
    tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    config = RunConfig(name="mined-0", runs=tmp_path, faces=tmp_path / "faces")
    write_json(RunDir(tmp_path / "mined-0").config, {"schema_version": 1, **to_tree(config)})
    check_reusable(config)
    with pytest.raises(ValueError, match=words):
        check_reusable(replace(config, **changed))  # type: ignore[arg-type]
