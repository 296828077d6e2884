from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import full
from benchmarks.full import Line, check_equal, read_lines, report, run, steps
from benchmarks.mining import KINDS, Case, measure


def test_a_step_that_the_file_holds_is_not_run_again(tmp_path: Path) -> None:
    kept, ran = tmp_path / "kept.jsonl", list[str]()

    def step(name: str) -> Callable[[], Line]:
        def work() -> Line:
            ran.append(name)
            return {}

        return work

    run({"a": step("a")}, kept)
    kept.write_text(kept.read_text() + '{"step": "b", "resu')
    run({"a": step("a"), "b": step("b")}, kept)
    run({"a": step("a"), "b": step("b")}, kept)
    assert ran == ["a", "b"]
    assert read_lines(kept).keys() == {"a", "b"}


def test_another_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.jsonl"
    kept.write_text('{"case": {}}\n')
    with pytest.raises(SystemExit, match="holds other lines than this benchmark writes"):
        full.main([str(kept)])


def test_results_of_other_sources_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.jsonl"
    run({"a": dict}, kept)
    assert read_lines(kept) == {"a": {}}
    monkeypatch.setattr(full, "digest_sources", lambda: "others")
    with pytest.raises(ValueError, match="results of other sources than these; move it away"):
        read_lines(kept)


def test_a_part_is_chosen_by_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = str(tmp_path / "kept.jsonl")
    full.main([kept, "--list", "--only", "equal", "separated"])
    assert capsys.readouterr().out == "equal separated 1,000,000 x 128, 5,000 anchors\n"
    with pytest.raises(SystemExit, match="2"):
        full.main([kept, "--only", "nothing"])


def test_a_difference_ends_with_one_sentence_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differ(*_: object) -> None:
        raise RuntimeError("table differs")

    monkeypatch.setattr(full, "compile_kernels", lambda: None)
    monkeypatch.setattr(full, "EQUAL_ROWS", 400)
    monkeypatch.setattr(full, "EQUAL_ANCHORS", 50)
    monkeypatch.setattr(full, "check_same", differ)
    with pytest.raises(SystemExit, match="table differs"):  # a text is exit code 1
        full.main([str(tmp_path / "kept.jsonl"), "--only", "equal", "separated"])


@pytest.mark.parametrize("gallery", KINDS)
def test_equality_is_shown_on_rows_pairs_and_suspects(gallery: str) -> None:
    found = check_equal(gallery, 20_000, 300)
    assert found.rows > 1000 and found.pairs >= 1200 and found.suspects > 0


def test_what_was_measured_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    names = list(steps())
    line = asdict(measure(Case(gallery="separated", num_rows=400, repeats=1)))
    sized = {size: line | {"case": line["case"] | {"num_rows": size}} for size in full.GROWING}
    known = {f"mine separated {size:,} x 128, all anchors": row for size, row in sized.items()}
    known[next(name for name in names if name.startswith("memory"))] = {"bytes": 800 << 20}
    known[next(name for name in names if name.startswith("equal"))] = asdict(
        full.Equal(
            gallery="separated",
            mine_s=1.0,
            float32_s=2.0,
            undecided=0.1,
            rows=1,
            pairs=2,
            semi_hard=1,
            suspects=77,
        )
    )
    report(known)
    printed = capsys.readouterr().out
    assert "growth exponent in N, separated, all anchors, 60,000, 200,000, 1,000,000" in printed
    assert "all anchors: the process grows by 800 MiB" in printed
    assert "77" in printed
