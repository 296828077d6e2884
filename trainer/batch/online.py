"""In-batch selection: faces of several identities, and the semi-hard triplets found among them.

The third way to triplets, beside mined and random ones: the step draws faces, not rows, and looks
for its triplets in its own forward pass. Nothing is stale and nothing is searched beyond the batch.

    facequarry run --config jobs/runs/lfw.toml --trainer.selection online_semi_hard
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from facequarry.datasets.disk.errors import BadInput
from facequarry.trainer.config import TrainerConfig

IntArray = npt.NDArray[np.int64]

# Keeps the draws apart from the other ones of the same seed and step.
_STREAM = 1


class IdentityBatches:
    """The faces of a step, the same for every rank: a pure function of (seed, step).

    Identities are drawn evenly, without replacement within a step, until their faces are
    `num_faces`; one with fewer than `faces_per_identity` gives what it has.

    Args:
        face_indices: (M,) int64 faces to draw from.
        identity_index: (M,) integers, the identity of each; identities of one face are not drawn.
        seed: the run's seed.
        num_faces: most faces of a step, over all ranks.
        faces_per_identity: most faces of one identity in a step, 2 or more.
        world_size: ranks that share a step's identities out.

    Raises:
        BadInput: a step cannot have two identities of two faces for each rank.
    """

    def __init__(
        self,
        face_indices: IntArray,
        identity_index: npt.NDArray[np.integer],
        *,
        seed: int,
        num_faces: int,
        faces_per_identity: int,
        world_size: int = 1,
    ) -> None:
        order = np.argsort(identity_index, kind="stable")
        self._faces = face_indices[order]
        _, first, counts = np.unique(identity_index[order], return_index=True, return_counts=True)
        self._first, self._counts = first[counts >= 2], counts[counts >= 2]
        self._seed, self._num_faces, self._each = seed, num_faces, faces_per_identity
        if len(self._first) < 2 * world_size:
            raise BadInput(
                f"{len(self._first)} of the training identities have two faces; triplets within "
                f"a batch need two such identities for each of {world_size} ranks: ingest more "
                "faces or lower trainer.workers"
            )
        if num_faces < 2 * world_size * faces_per_identity:
            raise BadInput(
                f"{num_faces} faces a step do not hold two identities of {faces_per_identity} "
                f"faces for each of {world_size} ranks; raise trainer.batch or lower "
                "trainer.faces_per_identity"
            )

    def faces(self, step: int, *, rank: int = 0, world_size: int = 1) -> IntArray:
        """Return the faces of a rank's part of the step's identities, as ascending face_index.

        The parts are contiguous in the order of the draw, so the ranks together take the faces
        that one process alone would take.

        Raises:
            BadInput: there are fewer than two identities a rank.
        """
        rng = np.random.default_rng((self._seed, step, _STREAM))
        # An identity gives two faces at least, so more identities than this are never needed.
        most = min(len(self._first), self._num_faces // 2)
        drawn = rng.choice(len(self._first), size=most, replace=False)
        taken = np.minimum(self._counts[drawn], self._each)
        drawn = drawn[np.cumsum(taken) <= self._num_faces]
        if len(drawn) < 2 * world_size:
            raise BadInput(
                f"a step has {len(drawn)} identities for {world_size} ranks, each needs two; "
                "lower trainer.workers or trainer.faces_per_identity, or raise trainer.batch"
            )
        chosen = [self._choose(identity, rng) for identity in drawn]
        first, last = (r * len(drawn) // world_size for r in (rank, rank + 1))
        return np.sort(np.concatenate(chosen[first:last]))

    def _choose(self, identity: int, rng: np.random.Generator) -> IntArray:
        count = self._counts[identity]
        places = rng.choice(count, size=min(count, self._each), replace=False)
        chosen: IntArray = self._faces[self._first[identity] + places]
        return chosen


def identity_batches(
    config: TrainerConfig,
    face_indices: IntArray,
    identity_index: npt.NDArray[np.integer],
    *,
    seed: int,
) -> IdentityBatches:
    """Return the faces of each step as `config` wants them: checks what they are drawn from.

    Args:
        config: how many faces a step has, and of how many ranks.
        face_indices: (M,) int64 faces to draw from.
        identity_index: (M,) integers, the identity of each.
        seed: the run's seed.

    Raises:
        BadInput: as `IdentityBatches`.
    """
    return IdentityBatches(
        face_indices,
        identity_index,
        seed=seed,
        num_faces=3 * config.batch,
        faces_per_identity=config.faces_per_identity,
        world_size=config.workers,
    )


def semi_hard_in_batch(
    embeddings: torch.Tensor, identities: torch.Tensor, *, margin: float
) -> torch.Tensor:
    """Find every semi-hard triplet among a batch's faces.

    Args:
        embeddings: (F, D) float32 unit rows.
        identities: (F,) integers, the identity of each.
        margin: squared L2.

    Returns:
        (T, 3) int64 rows of `embeddings`: anchor, positive, negative; none where T is 0.

    Source: FaceNet (Schroff et al. 2015), section 3.2, by pytorch-metric-learning, whose band has
        its upper edge closed where ours is open: a triplet on it has no loss.
    """
    # Imported here: it costs seconds that runs of mined and random triplets need not spend.
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.miners import TripletMarginMiner

    miner = TripletMarginMiner(
        margin=margin,
        type_of_triplets="semihard",
        distance=LpDistance(normalize_embeddings=False, power=2),
    )
    return torch.stack(miner(embeddings.detach(), identities), dim=1)
