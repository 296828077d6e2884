"""What may be chosen about mining; imports nothing heavy, so that run files parse anywhere."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from facequarry.datasets.disk.errors import BadInput

Engine = Literal["auto", "exact", "routed", "faiss"]
Positives = Literal["all", "random", "hardest"]
Negatives = Literal["nearest", "random", "hardest"]
Rung = Literal["easy", "hard", "random"]
Device = Literal["auto", "cpu", "cuda"]
FaissGpus = Literal["none", "replicas", "shards"]
Resolve = Literal["none", "exact"]

FAISS_GPU_LIMIT = 2048
"""Most neighbours that FAISS returns on a GPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MinerConfig:
    """Options of `miner.mine`; every distance is d2, squared L2 on unit rows, 0..4.

    Raises:
        BadInput: a value is out of its range, or two values contradict each other.
    """

    margin: float = 0.2
    """Width of the band above d2_ap in which a negative is semi-hard (d2, 0 < margin < 4)."""

    engine: Engine = "auto"
    """exact looks at every negative, routed at those of the identities most confusable with the
    anchor's, faiss at each anchor's nearest rows by an index; auto picks by size."""

    faiss_index: str = "Flat"
    """`faiss.index_factory` string of the gallery index, such as Flat or IVF4096,Flat."""

    nprobe: int | None = None
    """Inverted lists that an IVF index visits per anchor; None leaves it to FAISS."""

    routed_identities: int = 8
    """Identities, those most confusable with the anchor's, that `routed` scans; all of them where
    there are no more."""

    train_rows: int | None = None
    """Rows, drawn by seed, that an index is trained with; None hands FAISS all of them, of which it
    takes 256 per inverted list."""

    faiss_gpus: FaissGpus = "none"
    """Where FAISS searches: none is the CPU; all GPUs, with a copy of the index on each (replicas)
    or a part of it (shards)."""

    neighbours: int = 64
    """Rows of other identities that FAISS is asked for per anchor at first; doubled while pairs are
    unresolved."""

    neighbours_limit: int = 2048
    """Most rows, its own identity's included, that FAISS is asked for per anchor; pairs still open
    then are beyond_search."""

    resolve: Resolve = "none"
    """exact hands the anchors of pairs that would be beyond_search to the exact engine."""

    anchors: int | None = None
    """How many anchors to mine, drawn by seed; None mines every face that has a positive."""

    positives: Positives = "all"
    """Which faces of the anchor's identity become positives; hardest means largest d2_ap."""

    positives_per_anchor: int | None = None
    """How many positives random and hardest take per anchor; None takes all of them."""

    negatives: Negatives = "nearest"
    """nearest or random in the band; hardest is the nearest of all, in the band or not."""

    negatives_per_pair: int = 1
    """Rows per anchor-positive pair, fewer when fewer negatives qualify."""

    distinct_negative_identities: bool = False
    """Let the negatives of one pair come from different identities."""

    max_uses_as_negative: int | None = None
    """Most rows of a generation that may name one face as negative; those with the smallest hashes
    stay, the others are dropped and counted (`over_max_uses`). None has no limit."""

    fallback: tuple[Rung, ...] = ()
    """Rungs that a pair without a negative in its band tries in order; none drops the pair."""

    duplicate_floor: float | None = None
    """Negatives nearer than this are set aside as likely mislabelled (d2); None keeps them."""

    positive_cap: float | None = None
    """Pairs farther apart than this are set aside as likely mislabelled (d2); None keeps them."""

    device: Device = "auto"
    """Where a refresh embeds the faces and the exact engine searches; auto takes a GPU that the
    miner sees, cuda in a run reserves it one. Never changes what is mined from given embeddings."""

    gpu_memory_gib: float | None = None
    """GPU memory that the exact engine plans for; None takes what is free. Never changes
    results."""

    threads: int | None = None
    """CPU threads for the search; None takes what torch uses. Never changes results."""

    def __post_init__(self) -> None:
        _check_word("engine", self.engine, get_args(Engine))
        _check_word("positives", self.positives, get_args(Positives))
        _check_word("negatives", self.negatives, get_args(Negatives))
        _check_word("device", self.device, get_args(Device))
        _check_word("faiss_gpus", self.faiss_gpus, get_args(FaissGpus))
        _check_word("resolve", self.resolve, get_args(Resolve))
        for rung in self.fallback:
            _check_word("fallback", rung, get_args(Rung))
        if not 0 < self.margin < 4:
            raise BadInput(f"margin must lie between 0 and 4 (squared L2), got {self.margin}")
        for name in ("duplicate_floor", "positive_cap"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < 4:
                raise BadInput(f"{name} must lie between 0 and 4 (squared L2), got {limit}")
        if self.gpu_memory_gib is not None and not self.gpu_memory_gib > 0:
            raise BadInput(f"gpu_memory_gib must be above 0, got {self.gpu_memory_gib}")
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is int and field.name != "margin" and value < 1:
                raise BadInput(f"{field.name} must be at least 1, got {value}")
        if self.nprobe is not None and self.faiss_index == "Flat":
            raise BadInput("nprobe is set, but Flat has no inverted lists; leave it out")
        if self.neighbours_limit < self.neighbours:
            raise BadInput(
                f"neighbours_limit must be at least neighbours ({self.neighbours}), "
                f"got {self.neighbours_limit}"
            )
        if self.faiss_gpus != "none" and self.neighbours_limit > FAISS_GPU_LIMIT:
            raise BadInput(
                f"neighbours_limit is {self.neighbours_limit}, and FAISS returns {FAISS_GPU_LIMIT} "
                "neighbours at most on a GPU; give that or fewer, or set faiss_gpus = none"
            )
        if len(set(self.fallback)) < len(self.fallback):
            raise BadInput(f"fallback names a rung twice: {', '.join(self.fallback)}")
        if self.fallback and self.negatives == "hardest":
            raise BadInput("fallback needs negatives = nearest or random: hardest always serves")
        if self.positives_per_anchor is not None and self.positives == "all":
            raise BadInput("positives_per_anchor needs positives = random or hardest, not all")


def _check_word(name: str, word: object, known: tuple[str, ...]) -> None:
    if word not in known:
        raise BadInput(f"{name} must be one of {', '.join(known)}, got {word!r}")
