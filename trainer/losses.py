"""The triplet loss, and where each triplet stands in the band, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class TripletLoss:
    """What one batch of triplets gives.

    Attributes:
        loss: scalar, mean over the triplets, squared L2; differentiable.
        active_share, in_band_share, now_hard_share, now_easy_share: scalars in [0, 1] without
            gradient. The last three partition the triplets by the current embeddings.
    """

    loss: torch.Tensor
    active_share: torch.Tensor
    in_band_share: torch.Tensor
    now_hard_share: torch.Tensor
    now_easy_share: torch.Tensor


def triplet_loss(embeddings: torch.Tensor, triplets: torch.Tensor, *, margin: float) -> TripletLoss:
    """Mean hinge max(0, d2_ap - d2_an + margin) over index triples.

    Args:
        embeddings: (F, D) float32 unit rows, one per distinct face of the batch.
        triplets: (T, 3) int64 rows of `embeddings`: anchor, positive, negative. Without any, loss
            and shares are 0, and so is every gradient.
        margin: squared L2.

    Source: FaceNet (Schroff et al. 2015), equation 1, as a mean over all triplets: averaging only
        over the active ones would raise the step size just when few are left.
    """
    anchor, positive, negative = (embeddings[triplets[:, column]] for column in range(3))
    d2_ap = (anchor - positive).square().sum(dim=1)
    d2_an = (anchor - negative).square().sum(dim=1)
    hinge = (d2_ap - d2_an + margin).clamp_min(0)
    count = max(len(triplets), 1)
    with torch.no_grad():
        hard = d2_an <= d2_ap
        easy = d2_an >= d2_ap + margin
        shares = [share.sum() / count for share in (hinge > 0, ~(hard | easy), hard, easy)]
    return TripletLoss(hinge.sum() / count, *shares)
