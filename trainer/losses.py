"""The triplet loss, and where each triplet stands in the band, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Rows of mined triplets share few faces; up to here gathering them is the cheaper way.
_GATHERED_PER_FACE = 4


@dataclass(frozen=True, slots=True)
class TripletLoss:
    """What one batch of triplets gives.

    Attributes:
        loss: scalar, mean over the triplets, squared L2; differentiable.
        active_share, in_band_share, now_hard_share, now_easy_share: scalars in [0, 1] without
            gradient. The last three partition the triplets by the current embeddings.
        num_triplets: how many they are means over.
    """

    loss: torch.Tensor
    active_share: torch.Tensor
    in_band_share: torch.Tensor
    now_hard_share: torch.Tensor
    now_easy_share: torch.Tensor
    num_triplets: int


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
    d2_ap, d2_an = _d2_of(embeddings, triplets)
    hinge = (d2_ap - d2_an + margin).clamp_min(0)
    count = max(len(triplets), 1)
    with torch.no_grad():
        hard = d2_an <= d2_ap
        easy = d2_an >= d2_ap + margin
    return TripletLoss(
        loss=hinge.sum() / count,
        active_share=(hinge.detach() > 0).sum() / count,
        in_band_share=(~(hard | easy)).sum() / count,
        now_hard_share=hard.sum() / count,
        now_easy_share=easy.sum() / count,
        num_triplets=len(triplets),
    )


def _d2_of(embeddings: torch.Tensor, triplets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (T,) d2 of anchor to positive and of anchor to negative, differentiable."""
    anchors, positives, negatives = triplets.unbind(dim=1)
    if len(triplets) <= _GATHERED_PER_FACE * len(embeddings):
        anchor = embeddings[anchors]
        d2_ap, d2_an = (
            (anchor - embeddings[others]).square().sum(dim=1) for others in (positives, negatives)
        )
        return d2_ap, d2_an
    # A batch that finds its own triplets has hundreds a face: each pair's d2 is taken once, and
    # memory grows with (F, F) and T rather than with (T, D).
    squares = embeddings.square().sum(dim=1)
    d2 = squares[:, None] + squares[None, :] - 2 * embeddings @ embeddings.T
    return d2[anchors, positives], d2[anchors, negatives]
