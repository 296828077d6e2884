from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.reducers import MeanReducer

from facequarry.trainer.losses import triplet_loss


def make(num_faces: int = 12, num_rows: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(num_faces, 6, generator=generator), dim=1)
    return rows, torch.randint(num_faces, (num_rows, 3), generator=generator)


def test_loss_and_gradient_equal_pytorch_metric_learning() -> None:
    embeddings, triplets = make()
    ours, theirs = (embeddings.clone().requires_grad_() for _ in range(2))
    peer = TripletMarginLoss(
        margin=0.3, distance=LpDistance(power=2, normalize_embeddings=False), reducer=MeanReducer()
    )
    expected = peer(theirs, indices_tuple=tuple(triplets.T))
    result = triplet_loss(ours, triplets, margin=0.3)
    torch.testing.assert_close(result.loss, expected)
    result.loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def test_many_triplets_a_face_give_the_plain_loss_and_gradient() -> None:
    embeddings, triplets = make(num_faces=12, num_rows=400)
    at_once, plain = (embeddings.clone().requires_grad_() for _ in range(2))
    result = triplet_loss(at_once, triplets, margin=0.3)
    anchor, positive, negative = (plain[triplets[:, column]] for column in range(3))
    d2_ap, d2_an = ((anchor - other).square().sum(dim=1) for other in (positive, negative))
    expected = (d2_ap - d2_an + 0.3).clamp_min(0).mean()
    torch.testing.assert_close(result.loss, expected)
    result.loss.backward()
    expected.backward()
    torch.testing.assert_close(at_once.grad, plain.grad, atol=1e-6, rtol=1e-5)


def test_no_rows_of_embeddings_are_gathered_for_each_of_many_triplets() -> None:
    embeddings, triplets = make(num_faces=12, num_rows=100)
    saved: list[int] = []

    def kept(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        triplet_loss(embeddings.requires_grad_(), triplets, margin=0.3)
    assert max(saved) <= 12 * 12  # the plain way keeps (T, D) differences


def test_shares_partition_the_triplets() -> None:
    embeddings, triplets = make()
    result = triplet_loss(embeddings, triplets, margin=0.3)
    total = result.in_band_share + result.now_hard_share + result.now_easy_share
    assert float(total) == pytest.approx(1)
    # Easy triplets have no loss, the others have.
    assert float(result.active_share) == pytest.approx(1 - float(result.now_easy_share))


def test_each_kind_is_recognised() -> None:
    angles = torch.tensor([0.0, 0.5, 0.6, 0.3, 3.0])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    for negative, kind in ((2, "in_band"), (3, "now_hard"), (4, "now_easy")):
        result = triplet_loss(embeddings, torch.tensor([[0, 1, negative]]), margin=0.2)
        assert float(getattr(result, f"{kind}_share")) == 1
