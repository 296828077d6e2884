from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facequarry.datasets.runs.events import read_events
from facequarry.datasets.runs.run_dir import RunDir
from facequarry.trainer.batch.online import IdentityBatches, identity_batches, semi_hard_in_batch
from facequarry.trainer.checkpoints.checkpoint import load_model
from facequarry.trainer.config import TrainerConfig
from facequarry.trainer.losses import triplet_loss
from facequarry.trainer.network.embed import to_input
from tests.trainer.stores import random_triplets, small_store, still, train_small

CONFIG = TrainerConfig(
    selection="online_semi_hard",
    embedding_dim=8,
    steps=12,
    batch=8,
    faces_per_identity=3,
    checkpoint_every=6,
)
# Twenty identities of 1 to 5 faces, whose face_index values are shuffled.
COUNTS = np.arange(20) % 5 + 1
IDENTITY = np.random.default_rng(0).permutation(np.repeat(np.arange(20), COUNTS))


def batches(seed: int = 0, num_faces: int = 24, each: int = 3) -> IdentityBatches:
    return IdentityBatches(
        np.arange(len(IDENTITY)), IDENTITY, seed=seed, num_faces=num_faces, faces_per_identity=each
    )


def test_a_step_holds_a_few_faces_of_each_of_several_identities() -> None:
    seen: set[int] = set()
    for step in range(50):
        faces = batches().faces(step)
        assert 20 < len(faces) <= 24 and (np.diff(faces) > 0).all()
        identities, counts = np.unique(IDENTITY[faces], return_counts=True)
        assert np.array_equal(counts, np.minimum(COUNTS[identities], 3))
        assert (COUNTS[identities] >= 2).all()
        seen |= set(faces.tolist())
    assert seen == set(np.flatnonzero(COUNTS[IDENTITY] >= 2).tolist())


def test_a_step_depends_on_seed_and_step_alone() -> None:
    faces = batches(seed=4).faces(7)
    assert np.array_equal(faces, batches(seed=4).faces(7))
    assert not np.array_equal(faces, batches(seed=4).faces(8))
    assert not np.array_equal(faces, batches(seed=5).faces(7))


def test_ranks_share_a_steps_identities_out() -> None:
    whole = batches().faces(3)
    parts = [batches().faces(3, rank=rank, world_size=3) for rank in range(3)]
    assert np.array_equal(np.sort(np.concatenate(parts)), whole)
    identities = [set(IDENTITY[part].tolist()) for part in parts]
    assert sum(map(len, identities)) == len(set.union(*identities))


def test_a_gallery_smaller_than_a_step_is_taken_whole() -> None:
    faces = batches(num_faces=10_000, each=9).faces(0)
    assert np.array_equal(faces, np.flatnonzero(COUNTS[IDENTITY] >= 2))


def test_faces_that_hold_no_triplet_are_refused() -> None:
    with pytest.raises(ValueError, match="1 of the training identities have two faces"):
        IdentityBatches(
            np.arange(4), np.array([0, 0, 1, 2]), seed=0, num_faces=24, faces_per_identity=4
        )
    with pytest.raises(ValueError, match="5 faces a step do not hold two identities of 3"):
        batches(num_faces=5)
    with pytest.raises(ValueError, match="has 3 identities for 4 ranks.* lower trainer.workers"):
        batches(num_faces=9).faces(0, rank=0, world_size=4)
    with pytest.raises(ValueError, match="two identities of trainer.faces_per_identity 13"):
        replace(CONFIG, faces_per_identity=13)


def test_too_few_identities_for_the_ranks_are_refused_before_any_step() -> None:
    faces = np.arange(9)
    config = replace(CONFIG, workers=2)
    drawn = identity_batches(config, faces, faces // 2, seed=0)
    assert len(drawn.faces(0, rank=1, world_size=2)) == 4
    with pytest.raises(
        ValueError, match="^3 of .* for each of 2 ranks: ingest more faces or lower"
    ):
        identity_batches(config, faces[:7], faces[:7] // 2, seed=0)


def semi_hard_triple_loop(
    x: np.ndarray, identity: np.ndarray, margin: float
) -> set[tuple[int, int, int]]:
    def d2(a: int, b: int) -> float:
        return float(((x[a] - x[b]) ** 2).sum())

    return {
        (a, p, n)
        for a, p, n in permutations(range(len(x)), 3)
        if identity[a] == identity[p] != identity[n] and d2(a, p) < d2(a, n) < d2(a, p) + margin
    }


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_faces=st.integers(2, 10),
    num_identities=st.integers(1, 4),
    margin=st.sampled_from([0.05, 0.2, 1.0]),
)
def test_semi_hard_triplets_are_those_of_a_triple_loop(
    seed: int, num_faces: int, num_identities: int, margin: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_faces, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    identity = rng.integers(0, num_identities, num_faces)
    found = semi_hard_in_batch(torch.from_numpy(x), torch.from_numpy(identity), margin=margin)
    assert found.shape == (len(found), 3)
    assert sorted(map(tuple, found.tolist())) == sorted(semi_hard_triple_loop(x, identity, margin))


def test_a_batch_without_triplets_has_no_loss_and_no_gradient() -> None:
    embeddings = torch.eye(4, requires_grad=True)
    none = semi_hard_in_batch(embeddings, torch.tensor([0, 0, 1, 1]), margin=0.2)
    result = triplet_loss(embeddings, none, margin=0.2)
    result.loss.backward()
    assert (len(none), float(result.loss.detach()), float(result.now_hard_share)) == (0, 0, 0)
    assert embeddings.grad is not None and not embeddings.grad.any()


def test_the_loop_trains_on_what_it_finds(tmp_path: Path) -> None:
    store, run = small_store(tmp_path), RunDir(tmp_path / "run")
    train_small(run, still(store), CONFIG)
    steps = [e for e in read_events(run.events, "trainer") if e["event"] == "step"]
    drawn = identity_batches(CONFIG, np.arange(store.num_faces), store.identity_index, seed=0)
    assert len(steps) == 12 and all(event["generation"] is None for event in steps)
    for event in steps:
        if event["num_triplets"]:
            faces = len(drawn.faces(event["step"]))
            assert event["faces_per_triplet"] * event["num_triplets"] == pytest.approx(faces)
            assert event["active_share"] == pytest.approx(1, abs=0.01)
    assert any(event["num_triplets"] for event in steps)


def test_steps_without_triplets_are_counted_and_leave_finite_weights(tmp_path: Path) -> None:
    store, run = small_store(tmp_path), RunDir(tmp_path / "run")
    # No band is that narrow: every step comes out empty.
    train_small(run, still(store), CONFIG, margin=1e-12)
    steps = [e for e in read_events(run.events, "trainer") if e["event"] == "step"]
    assert [(e["num_triplets"], e["loss_d2"]) for e in steps] == [(0, 0.0)] * 12
    assert all("faces_per_triplet" not in event for event in steps)
    assert run.checkpoint_steps() == [0, 6, 12]


def test_rows_and_what_is_found_among_their_faces_are_trained_on_together(tmp_path: Path) -> None:
    config = TrainerConfig(
        embedding_dim=8,
        steps=1,
        batch=8,
        add_in_batch=True,
        optimizer="sgd",
        momentum=0.0,
        weight_decay=0.0,
        learning_rate=0.1,
        flip=False,
        freeze_batch_norm=True,
    )
    store, run = small_store(tmp_path), RunDir(tmp_path / "run")
    train_small(run, still(store), config)

    rows = random_triplets(store).rows(0, config.batch)
    faces, positions = np.unique(rows, return_inverse=True)
    model, _ = load_model(run.checkpoint(0))
    embeddings = model(to_input(store.decode(faces), "cpu"))
    wanted = {(int(a), int(p), int(n)) for a, p, n in positions.reshape(rows.shape)}
    assert len(found := semi_hard_by_loop(embeddings, store.identity_index[faces])) > len(wanted)
    union = torch.tensor(sorted(wanted | found))
    triplet_loss(embeddings, union, margin=0.2).loss.backward()
    after, _ = load_model(run.checkpoint(1))
    for before, now in zip(model.parameters(), after.parameters(), strict=True):
        assert before.grad is not None
        torch.testing.assert_close(now, before - 0.1 * before.grad)


def semi_hard_by_loop(embeddings: torch.Tensor, identity: np.ndarray) -> set[tuple[int, int, int]]:
    """Return the triplets in the open band, looked for one by one."""
    with torch.no_grad():
        d2 = (embeddings[:, None] - embeddings[None]).square().sum(dim=2)
    return {
        (a, p, n)
        for a, p in permutations(range(len(identity)), 2)
        if identity[a] == identity[p]
        for n in np.flatnonzero(identity != identity[a]).tolist()
        if d2[a, p] < d2[a, n] < d2[a, p] + 0.2
    }
