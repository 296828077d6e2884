from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.galleries import GALLERIES
from benchmarks.peers.__main__ import Way, judge, ours_settings, pairs_of, ways
from benchmarks.peers.ours import main
from facequarry.miner import MinerConfig, mine


@pytest.mark.parametrize("positives", [1, None])
def test_what_mine_serves_is_in_band_and_of_the_pairs_that_a_peer_is_given(
    positives: int | None,
) -> None:
    gallery = GALLERIES["confusable"](400)
    config = MinerConfig(**ours_settings(positives))
    table = mine(*gallery, config=config).table
    served = {name: table[name].to_numpy() for name in ("anchor", "positive", "negative")}
    assert judge(gallery, served, config.margin) == (table.num_rows, 0)
    pairs = pairs_of(gallery, config)
    given = set(zip(pairs.anchors[pairs.slot].tolist(), pairs.positive.tolist(), strict=True))
    assert set(zip(served["anchor"].tolist(), served["positive"].tolist(), strict=True)) <= given
    assert len(given) == 400 * (positives or 19)


def test_a_face_of_the_same_identity_is_no_negative() -> None:
    gallery = GALLERIES["untrained"](40)
    rows = np.zeros(18, np.int64), np.full(18, 1), np.arange(2, 20)
    served = dict(zip(("anchor", "positive", "negative"), rows, strict=True))
    assert judge(gallery, served, 0.2) == (0, 18)


def test_our_side_writes_triplets_and_prints_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, identities = GALLERIES["untrained"](200)
    np.savez(tmp_path / "faces.npz", rows=x, identities=identities)
    (tmp_path / "settings.json").write_text('{"engine": "exact"}')
    main(*(tmp_path / name for name in ("settings.json", "faces.npz", "triplets.npz")))
    assert capsys.readouterr().out.startswith('{"seconds": ')
    with np.load(tmp_path / "triplets.npz") as found:
        assert found["anchor"].size == found["negative"].size > 3000


def test_a_peer_is_started_in_isolation() -> None:
    groups = ways(Path("python"))
    theirs = [way for group in groups.values() for way in group if way.name != "mine"]
    assert len(theirs) == 3
    assert all(isinstance(way, Way) and way.command[1] == "-I" for way in theirs)
